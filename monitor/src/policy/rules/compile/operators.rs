//! Operators: which types they take, on either side.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators as op},
};

use super::{Compiler, Typed};
use crate::policy::rules::{
    expression::{Arithmetic, Comparison, Node},
    fields::Type,
};

impl Compiler<'_> {
    pub(super) fn call(&mut self, expression: &IdedExpr, call: &CallExpr, depth: u16) -> Typed {
        let CallExpr { func_name, target, args } = call;
        match (func_name.as_str(), target, args.as_slice()) {
            (op::LOGICAL_NOT, None, [inner]) => Some((Node::Not(Box::new(self.truth(inner, depth)?)), Type::Bool)),
            (op::LOGICAL_AND | op::LOGICAL_OR, None, [left, right]) => {
                // Both, so that one run tells of the mistakes on both sides.
                let (left, right) = (self.truth(left, depth), self.truth(right, depth));
                let (left, right) = (Box::new(left?), Box::new(right?));
                let is_and = func_name == op::LOGICAL_AND;
                Some((if is_and { Node::And(left, right) } else { Node::Or(left, right) }, Type::Bool))
            }
            (op::CONDITIONAL, None, [condition, then, otherwise]) => {
                let condition = Box::new(self.truth(condition, depth)?);
                let (then, kind) = self.expression(then, depth)?;
                let otherwise = self.of_type(otherwise, kind, depth)?;
                Some((Node::Choose(condition, Box::new(then), Box::new(otherwise)), kind))
            }
            (op::IN, None, [element, list]) => self.is_in(element, list, depth),
            (op::NEGATE, None, [number]) => {
                let number = self.of_type(number, Type::Int, depth)?;
                Some((Node::Calculate(Arithmetic::Subtract, Box::new(Node::Int(0)), Box::new(number)), Type::Int))
            }
            (op::INDEX, None, [map, key]) => match (self.expression(map, depth)?, &key.expr) {
                ((_, Type::Labels), Expr::Literal(LiteralValue::String(key))) => {
                    Some((Node::Label(key.inner().to_owned()), Type::Text))
                }
                ((_, Type::Labels), _) => {
                    self.wrong(key, "the name of a label must be written out", "write process.labels[\"app\"]")
                }
                ((_, kind), _) => {
                    self.wrong(expression, format!("{kind:#} has no elements by number"), "write .exists(x, …)")
                }
            },
            (name, None, [left, right]) if arithmetic(name).is_some() => {
                let (left, right) = (self.of_type(left, Type::Int, depth), self.of_type(right, Type::Int, depth));
                let how = arithmetic(name)?;
                Some((Node::Calculate(how, Box::new(left?), Box::new(right?)), Type::Int))
            }
            (name, None, [left, right]) if comparison(name).is_some() => {
                self.compare(expression, comparison(name)?, left, right, depth)
            }
            _ => self.function(expression, call, depth),
        }
    }
}

fn arithmetic(name: &str) -> Option<Arithmetic> {
    Some(match name {
        op::ADD => Arithmetic::Add,
        op::SUBSTRACT => Arithmetic::Subtract,
        op::MULTIPLY => Arithmetic::Multiply,
        op::DIVIDE => Arithmetic::Divide,
        op::MODULO => Arithmetic::Remainder,
        _ => return None,
    })
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        op::EQUALS => Comparison::Equal,
        op::NOT_EQUALS => Comparison::NotEqual,
        op::LESS => Comparison::Less,
        op::LESS_EQUALS => Comparison::LessEqual,
        op::GREATER => Comparison::Greater,
        op::GREATER_EQUALS => Comparison::GreaterEqual,
        _ => return None,
    })
}
