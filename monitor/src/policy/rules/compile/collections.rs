//! Lists that are written out, and `exists` and `all`, which go through those of a flow, no deeper than is bounded.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, ListExpr, operators as op},
};

use super::{Compiler, DEPTH_OF_LISTS, Typed, Variable};
use crate::policy::rules::{
    expression::Node,
    fields::{Type, Values},
};

impl Compiler<'_> {
    pub(super) fn list(&mut self, expression: &IdedExpr, list: &ListExpr) -> Typed {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        for element in &list.elements {
            match self.expression(element, 0)? {
                (Node::Text(text), _) => texts.push(text),
                (Node::Int(number), _) => numbers.push(number),
                _ => return self.wrong(element, "a list may only hold texts or numbers that are written out", ""),
            }
        }
        match (texts.is_empty(), numbers.is_empty()) {
            (false, true) => Some((Node::Texts(texts), Type::Texts)),
            (true, false) => Some((Node::Ints(numbers), Type::Int)),
            (true, true) => {
                self.wrong(expression, "this list is empty, so nothing is in it", "write what it shall hold")
            }
            (false, false) => self.wrong(expression, "this list holds texts and numbers", "keep to one of the two"),
        }
    }

    pub(super) fn comprehension(&mut self, expression: &IdedExpr, it: &ComprehensionExpr, depth: u16) -> Typed {
        let (list, kind) = self.expression(&it.iter_range, depth)?;
        let Some(element) = kind.element() else {
            return self.wrong(expression, format!("{kind:#} cannot be gone through"), "only lists can");
        };
        if self.variables.len() == DEPTH_OF_LISTS {
            let help = format!("write at most {DEPTH_OF_LISTS} within one another");
            return self.wrong(expression, "exists and all stand too deep within one another", help);
        }
        let (is_any, body) = match &it.loop_step.expr {
            Expr::Call(CallExpr { func_name, args, .. }) if it.iter_var2.is_none() => {
                match (func_name.as_str(), args.get(1)) {
                    (op::LOGICAL_OR, Some(body)) => (true, body),
                    (op::LOGICAL_AND, Some(body)) => (false, body),
                    _ => {
                        return self.wrong(
                            expression,
                            "only exists and all go through lists here",
                            "write .exists(x, …) or .all(x, …)",
                        );
                    }
                }
            }
            _ => {
                return self.wrong(
                    expression,
                    "only exists and all go through lists here",
                    "write .exists(x, …) or .all(x, …)",
                );
            }
        };
        let variable = self.variables.len();
        let values = self.values_of(&list).map_or(Values::Any, |(_, values)| values);
        self.variables.push(Variable { name: it.iter_var.clone(), kind: element, values });
        let body_compiled = self.truth(body, depth);
        self.variables.pop();
        let body = Box::new(body_compiled?);
        let list = Box::new(list);
        Some((if is_any { Node::Exists(list, variable, body) } else { Node::All(list, variable, body) }, Type::Bool))
    }
}
