//! From a path as it is written to a field, a label or a part of a list's element, with what was meant where there is none.

use cel::{
    IdedExpr,
    common::ast::{Expr, SelectExpr},
};

use super::{Compiler, Typed};
use crate::policy::rules::{
    expression::{Node, Part},
    fields::{self, Type},
};

impl Compiler<'_> {
    pub(super) fn name(&mut self, expression: &IdedExpr, name: &str) -> Typed {
        if let Some(depth) = self.variables.iter().rposition(|variable| variable.name == name) {
            let kind = self.variables.get(depth).map_or(Type::Text, |variable| variable.kind);
            return Some((Node::Item(depth, Part::Itself), kind));
        }
        self.field(expression, name)
    }

    fn field(&mut self, expression: &IdedExpr, path: &str) -> Typed {
        if let Some(row) = fields::find(path) {
            return Some((Node::Field(row.field), row.kind));
        }
        let help = if fields::is_group(path) {
            let below = fields::FIELDS.iter().map(|row| row.path).filter(|known| known.starts_with(path));
            format!("write one of {}", below.collect::<Vec<_>>().join(", "))
        } else {
            match fields::nearest(path) {
                Some(near) => format!("did you mean {near}?"),
                None => "docs/rules.md lists the fields".to_owned(),
            }
        };
        self.wrong(expression, format!("there is no field {path}"), help)
    }

    pub(super) fn select(&mut self, expression: &IdedExpr, select: &SelectExpr) -> Typed {
        let selected = match path_of(&select.operand) {
            Some(operand) if !self.variables.iter().any(|variable| variable.name == operand) => {
                let path = format!("{operand}.{}", select.field);
                let is_below_map = fields::find(&operand).is_some_and(|row| row.kind == Type::Labels);
                if is_below_map {
                    Some((Node::Label(select.field.clone()), Type::Text))
                } else {
                    self.field(expression, &path)
                }
            }
            _ => self.part(expression, select),
        }?;
        if select.test { Some((Node::Has(Box::new(selected.0)), Type::Bool)) } else { Some(selected) }
    }

    /// A part of a comprehension's variable.
    fn part(&mut self, expression: &IdedExpr, select: &SelectExpr) -> Typed {
        let (operand, kind) = self.expression(&select.operand, 0)?;
        let part = match (kind, select.field.as_str()) {
            (Type::Parent | Type::Name, "name") => Part::Name,
            (Type::Parent, "executable") => Part::Executable,
            (Type::Name, "source") => Part::Source,
            (kind, field) => {
                let help = match kind {
                    Type::Parent => "write .name or .executable",
                    Type::Name => "write .name or .source",
                    Type::Names | Type::Parents => "go through the list with .exists(x, …)",
                    _ => "",
                };
                return self.wrong(expression, format!("{kind:#} has no {field}"), help);
            }
        };
        match operand {
            Node::Item(depth, _) => Some((Node::Item(depth, part), Type::Text)),
            _ => self.wrong(expression, "only a list's variable has parts", "go through the list with .exists(x, …)"),
        }
    }
}

/// `a.b.c` as it is written; `None` for anything else.
fn path_of(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", path_of(&select.operand)?, select.field)),
        _ => None,
    }
}
