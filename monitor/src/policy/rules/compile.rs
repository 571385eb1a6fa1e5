//! From the text of a condition to [`Node`]: parsed by the `cel` crate, checked here against the table of fields.
//!
//! What cannot be bounded is refused: a long text, deep nesting, lists within lists within lists, large patterns.

mod collections;
mod comparison;
mod functions;
mod mistake;
mod operators;
mod paths;
mod values;

use std::sync::Arc;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators as op},
    parser::Parser,
};

use super::{
    expression::Node,
    fields::{Type, Values},
};

pub(super) use mistake::Mistake;
use mistake::{mistake, syntax};

/// Longest condition, in bytes.
pub(super) const CONDITION_BYTES: usize = 4_096;
/// Deepest nesting of a condition's parts.
pub(super) const NESTING: u16 = 32;
/// Most parts of a condition.
pub(super) const NODES: usize = 512;
/// How many `exists` or `all` may stand within one another.
pub(super) const DEPTH_OF_LISTS: usize = 2;
/// Memory that a compiled pattern may take, in bytes.
pub(super) const PATTERN_BYTES: usize = 256 << 10;

/// Compiles a condition. Where the ids of lists are known, any other one is a mistake.
///
/// # Errors
/// Everything that is wrong with it, as far as one mistake does not hide another.
pub(super) fn compile(text: &str, known_lists: Option<&[Arc<str>]>) -> Result<Node, Vec<Mistake>> {
    if text.len() > CONDITION_BYTES {
        let help = format!("write at most {CONDITION_BYTES} bytes, or make two rules of it");
        return Err(vec![mistake(0, format!("this condition has {} bytes", text.len()), help)]);
    }
    let parser = Parser::new().max_recursion_depth(NESTING);
    let (expression, source) = parser.parse_with_source_info(text).map_err(|errors| syntax(text, &errors))?;
    let mut compiler = Compiler { source, known_lists, mistakes: Vec::new(), variables: Vec::new(), nodes: 0 };
    match compiler.expression(&expression, 0) {
        Some((node, Type::Bool)) if compiler.mistakes.is_empty() => Ok(node),
        Some((_, kind)) if compiler.mistakes.is_empty() => Err(vec![mistake(
            0,
            format!("this condition is {kind:#}, not true or false"),
            "compare it with something, such as flow.bytes_out > 1000000",
        )]),
        _ => {
            compiler.mistakes.sort_by_key(|mistake| mistake.offset);
            compiler.mistakes.dedup();
            Err(compiler.mistakes)
        }
    }
}

struct Compiler<'l> {
    source: SourceInfo,
    known_lists: Option<&'l [Arc<str>]>,
    mistakes: Vec<Mistake>,
    /// The variables of the comprehensions around, outermost first.
    variables: Vec<Variable>,
    nodes: usize,
}

/// The variable of a comprehension.
struct Variable {
    name: String,
    kind: Type,
    /// What it may be.
    values: Values,
}

type Typed = Option<(Node, Type)>;

impl Compiler<'_> {
    fn wrong(&mut self, expression: &IdedExpr, message: impl Into<String>, help: impl Into<String>) -> Typed {
        let offset = self.offset(expression);
        self.mistakes.push(mistake(offset, message, help));
        None
    }

    /// Where an expression begins: a call and a selection are noted at their operator.
    fn offset(&self, expression: &IdedExpr) -> usize {
        match &expression.expr {
            Expr::Select(select) => self.offset(&select.operand),
            Expr::Call(CallExpr { target: Some(target), .. }) => self.offset(target),
            Expr::Call(CallExpr { args, func_name, .. }) if func_name.starts_with('_') || func_name == op::IN => {
                args.first().map_or(0, |first| self.offset(first))
            }
            Expr::Comprehension(comprehension) => self.offset(&comprehension.iter_range),
            _ => self.source.offset_for(expression.id).map_or(0, |(start, _)| start as usize),
        }
    }

    fn expression(&mut self, expression: &IdedExpr, depth: u16) -> Typed {
        self.nodes += 1;
        if depth > NESTING || self.nodes > NODES {
            if self.mistakes.is_empty() {
                let help =
                    format!("nest at most {NESTING} deep and write at most {NODES} parts, or make two rules of it");
                return self.wrong(expression, "this condition is too large", help);
            }
            return None;
        }
        match &expression.expr {
            Expr::Literal(literal) => self.literal(expression, literal),
            Expr::Ident(name) => self.name(expression, name),
            Expr::Select(select) => self.select(expression, select),
            Expr::Call(call) => self.call(expression, call, depth + 1),
            Expr::List(list) => self.list(expression, list),
            Expr::Comprehension(comprehension) => self.comprehension(expression, comprehension, depth + 1),
            Expr::Map(_) | Expr::Struct(_) => {
                self.wrong(expression, "maps and messages cannot be written here", "compare single fields instead")
            }
            Expr::Unspecified => self.wrong(expression, "something is missing here", ""),
        }
    }

    fn literal(&mut self, expression: &IdedExpr, literal: &LiteralValue) -> Typed {
        Some(match literal {
            LiteralValue::Boolean(truth) => (Node::Bool(*truth.inner()), Type::Bool),
            LiteralValue::Int(number) => (Node::Int(*number.inner()), Type::Int),
            LiteralValue::UInt(number) => match i64::try_from(*number.inner()) {
                Ok(number) => (Node::Int(number), Type::Int),
                Err(_) => {
                    return self.wrong(expression, "this number is too large", "write at most 9223372036854775807");
                }
            },
            LiteralValue::String(text) => (Node::Text(text.inner().to_owned()), Type::Text),
            LiteralValue::Null => {
                return self.wrong(
                    expression,
                    "null cannot be compared: what is unknown equals nothing",
                    "ask with has(field) whether it is known",
                );
            }
            LiteralValue::Double(_) => {
                return self.wrong(expression, "fields have no fractions", "write a whole number");
            }
            LiteralValue::Bytes(_) => {
                return self.wrong(expression, "no field holds bytes", "write the text without the b before it");
            }
        })
    }

    /// An expression that must be true or false.
    fn truth(&mut self, expression: &IdedExpr, depth: u16) -> Option<Node> {
        self.of_type(expression, Type::Bool, depth)
    }

    fn of_type(&mut self, expression: &IdedExpr, wanted: Type, depth: u16) -> Option<Node> {
        let (node, kind) = self.expression(expression, depth)?;
        if kind == wanted && !matches!(node, Node::Ints(_)) {
            return Some(node);
        }
        self.wrong(expression, format!("this is {kind:#}, where {wanted:#} is needed"), "");
        None
    }
}
