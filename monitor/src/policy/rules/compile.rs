//! From the text of a condition to [`Node`]: parsed by the `cel` crate, checked here against the table of fields.
//!
//! What cannot be bounded is refused: a long text, deep nesting, lists within lists within lists, large patterns.

use std::net::IpAddr;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, ListExpr, LiteralValue, SelectExpr, SourceInfo, operators as op},
    parser::Parser,
};
use ipnet::IpNet;

use super::{
    expression::{Arithmetic, Comparison, Node, Part, TextTest},
    fields::{self, Type, Values},
};

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

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// Where, in bytes from the condition's beginning.
    pub(super) offset: usize,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Compiles a condition.
///
/// # Errors
/// Everything that is wrong with it, as far as one mistake does not hide another.
pub(super) fn compile(text: &str) -> Result<Node, Vec<Mistake>> {
    if text.len() > CONDITION_BYTES {
        let help = format!("write at most {CONDITION_BYTES} bytes, or make two rules of it");
        return Err(vec![mistake(0, format!("this condition has {} bytes", text.len()), help)]);
    }
    let parser = Parser::new().max_recursion_depth(NESTING);
    let (expression, source) = parser.parse_with_source_info(text).map_err(|errors| syntax(text, &errors))?;
    let mut compiler = Compiler { source, mistakes: Vec::new(), variables: Vec::new(), nodes: 0 };
    match compiler.expression(&expression, 0) {
        Some((node, Type::Bool)) if compiler.mistakes.is_empty() => Ok(node),
        Some((_, kind)) if compiler.mistakes.is_empty() => Err(vec![mistake(
            0,
            format!("this condition is a {kind}, not true or false"),
            "compare it with something, such as flow.bytes_out > 1000000",
        )]),
        _ => {
            compiler.mistakes.sort_by_key(|mistake| mistake.offset);
            compiler.mistakes.dedup();
            Err(compiler.mistakes)
        }
    }
}

fn mistake(offset: usize, message: impl Into<String>, help: impl Into<String>) -> Mistake {
    Mistake { offset, message: message.into(), help: Some(help.into()).filter(|help| !help.is_empty()) }
}

/// What the parser says, with its lines and columns turned into offsets.
fn syntax(text: &str, errors: &cel::ParseErrors) -> Vec<Mistake> {
    let offset = |(line, column): (isize, isize)| {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let line = usize::try_from(line).unwrap_or(1).clamp(1, lines.len().max(1)) - 1;
        let before: usize = lines.iter().take(line).map(|line| line.len()).sum();
        let column = usize::try_from(column).unwrap_or(1).max(1) - 1;
        let within = lines.get(line).and_then(|line| line.char_indices().nth(column)).map_or(0, |(at, _)| at);
        before + within
    };
    let mut mistakes: Vec<Mistake> = Vec::new();
    for error in &errors.errors {
        let what = error.msg.lines().next().unwrap_or_default().trim();
        let offset = offset(error.pos);
        if !mistakes.iter().any(|known| known.offset == offset) {
            let help = "docs/rules.md shows how conditions are written";
            mistakes.push(mistake(offset, format!("this condition cannot be read: {what}"), help));
        }
    }
    mistakes.truncate(3);
    if mistakes.is_empty() {
        mistakes.push(mistake(0, "this condition cannot be read", "docs/rules.md shows how conditions are written"));
    }
    mistakes
}

struct Compiler {
    source: SourceInfo,
    mistakes: Vec<Mistake>,
    /// Names and types of the variables of the comprehensions around, outermost first.
    variables: Vec<(String, Type)>,
    nodes: usize,
}

type Typed = Option<(Node, Type)>;

impl Compiler {
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

    fn name(&mut self, expression: &IdedExpr, name: &str) -> Typed {
        if let Some(depth) = self.variables.iter().rposition(|(variable, _)| variable == name) {
            let kind = self.variables.get(depth).map_or(Type::Text, |(_, kind)| *kind);
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

    fn select(&mut self, expression: &IdedExpr, select: &SelectExpr) -> Typed {
        let selected = match path_of(&select.operand) {
            Some(operand) if !self.variables.iter().any(|(name, _)| *name == operand) => {
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
                return self.wrong(expression, format!("a {kind} has no {field}"), help);
            }
        };
        match operand {
            Node::Item(depth, _) => Some((Node::Item(depth, part), Type::Text)),
            _ => self.wrong(expression, "only a list's variable has parts", "go through the list with .exists(x, …)"),
        }
    }

    fn list(&mut self, expression: &IdedExpr, list: &ListExpr) -> Typed {
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

    fn comprehension(&mut self, expression: &IdedExpr, it: &ComprehensionExpr, depth: u16) -> Typed {
        let (list, kind) = self.expression(&it.iter_range, depth)?;
        let Some(element) = kind.element() else {
            return self.wrong(expression, format!("a {kind} cannot be gone through"), "only lists can");
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
        self.variables.push((it.iter_var.clone(), element));
        let body_compiled = self.truth(body, depth);
        self.variables.pop();
        let body = Box::new(body_compiled?);
        let list = Box::new(list);
        Some((if is_any { Node::Exists(list, variable, body) } else { Node::All(list, variable, body) }, Type::Bool))
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
        self.wrong(expression, format!("this is a {kind}, where a {wanted} is needed"), "");
        None
    }

    fn call(&mut self, expression: &IdedExpr, call: &CallExpr, depth: u16) -> Typed {
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
                    self.wrong(expression, format!("a {kind} has no elements by number"), "write .exists(x, …)")
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

    fn compare(&mut self, whole: &IdedExpr, how: Comparison, left: &IdedExpr, right: &IdedExpr, depth: u16) -> Typed {
        let (left_typed, right_typed) = (self.expression(left, depth), self.expression(right, depth));
        let ((left_node, left_kind), (right_node, right_kind)) = (left_typed?, right_typed?);
        let is_order = !matches!(how, Comparison::Equal | Comparison::NotEqual);
        if matches!(left_node, Node::Ints(_)) || matches!(right_node, Node::Ints(_)) {
            return self.wrong(whole, "a list is compared", "write in, such as destination.port in [80, 443]");
        }
        let (left_node, right_node) = match (left_kind, right_kind) {
            (Type::Address, Type::Text) => (left_node, self.address(right, &right_node)?),
            (Type::Text, Type::Address) => (self.address(left, &left_node)?, right_node),
            (left_kind, right_kind) if left_kind == right_kind => (left_node, right_node),
            (left_kind, right_kind) => {
                let help = match (left_kind, right_kind) {
                    (Type::Int, Type::Text) => "write the number without quotes",
                    (Type::Text, Type::Int) => "write the text in quotes",
                    (Type::Texts | Type::Names | Type::Parents, _) => "write .exists(x, x == …), or \"…\" in list",
                    _ => "compare like with like",
                };
                return self.wrong(whole, format!("a {left_kind} is compared with a {right_kind}"), help);
            }
        };
        let kind = if left_kind == Type::Text { right_kind } else { left_kind };
        let comparable = match kind {
            Type::Int | Type::Text => true,
            Type::Bool | Type::Address => !is_order,
            _ => false,
        };
        if !comparable {
            return self.wrong(
                whole,
                format!("values of type {kind} cannot be compared so"),
                "write .exists(x, …), or in_cidr for addresses",
            );
        }
        self.check_words(left, &right_node, right, &left_node);
        Some((Node::Compare(how, Box::new(left_node), Box::new(right_node)), Type::Bool))
    }

    /// A text that is an address.
    fn address(&mut self, expression: &IdedExpr, node: &Node) -> Option<Node> {
        if let Node::Text(text) = node
            && let Ok(address) = text.parse::<IpAddr>()
        {
            return Some(Node::Address(address.to_canonical()));
        }
        self.wrong(
            expression,
            "this is no address",
            "write one such as \"192.0.2.1\", or in_cidr(destination.ip, \"192.0.2.0/24\")",
        );
        None
    }

    /// Refuses what a field can never be.
    fn check_words(&mut self, left: &IdedExpr, right_node: &Node, right: &IdedExpr, left_node: &Node) {
        for (node, other, place) in [(left_node, right_node, right), (right_node, left_node, left)] {
            let Node::Field(field) = node else { continue };
            let Some(row) = fields::FIELDS.iter().find(|row| row.field == *field) else { continue };
            let texts = match other {
                Node::Text(text) => std::slice::from_ref(text),
                Node::Texts(texts) => texts.as_slice(),
                _ => continue,
            };
            for text in texts {
                if let Some(help) = refusal(row.values, text) {
                    self.wrong(place, format!("{} is never {text:?}", row.path), help);
                }
            }
        }
    }

    fn is_in(&mut self, element: &IdedExpr, list: &IdedExpr, depth: u16) -> Typed {
        let (element_typed, list_typed) = (self.expression(element, depth), self.expression(list, depth));
        let ((element_node, kind), (list_node, list_kind)) = (element_typed?, list_typed?);
        let list_node = match (kind, &list_node) {
            (Type::Address, Node::Texts(texts)) => {
                let addresses: Option<Vec<IpAddr>> = texts.iter().map(|text| text.parse().ok()).collect();
                match addresses {
                    Some(addresses) => Node::Addresses(addresses),
                    None => return self.wrong(list, "not all of these are addresses", "write networks in in_cidr"),
                }
            }
            (Type::Int, Node::Ints(_)) | (Type::Text, _)
                if list_kind == Type::Texts || matches!(list_node, Node::Ints(_)) =>
            {
                if kind == Type::Text && matches!(list_node, Node::Ints(_)) {
                    return self.wrong(list, "a string is looked for among numbers", "write texts in quotes");
                }
                list_node
            }
            (Type::Text, _) if matches!(list_kind, Type::Names | Type::Parents) => {
                let help = "write .exists(x, x.name == …), or domain_matches in it";
                return self.wrong(list, format!("a string is looked for in a {list_kind}"), help);
            }
            _ => {
                return self.wrong(
                    list,
                    format!("a {kind} is looked for in a {list_kind}"),
                    "write a list such as [1, 2] or [\"a\", \"b\"]",
                );
            }
        };
        self.check_words(element, &list_node, list, &element_node);
        // `"x" in field`: the field's values have rules too.
        if let Node::Field(_) = list_node {
            self.check_words(list, &element_node, element, &list_node);
        }
        Some((Node::In(Box::new(element_node), Box::new(list_node)), Type::Bool))
    }

    fn function(&mut self, expression: &IdedExpr, call: &CallExpr, depth: u16) -> Typed {
        let CallExpr { func_name, target, args } = call;
        // `f(x, y)` and `x.f(y)` are the same.
        let operands: Vec<&IdedExpr> = target.iter().map(|target| &**target).chain(args).collect();
        match (func_name.as_str(), operands.as_slice()) {
            ("contains", [network, address]) if is_cidr(network) => {
                let networks = match &network.expr {
                    Expr::Call(CallExpr { args, .. }) => args.first().and_then(|literal| self.networks(literal))?,
                    _ => return None,
                };
                let address = self.of_type(address, Type::Address, depth)?;
                Some((Node::InCidr(Box::new(address), networks), Type::Bool))
            }
            ("startsWith" | "endsWith" | "contains", [text, other]) => {
                let (text, other) = (self.of_type(text, Type::Text, depth), self.of_type(other, Type::Text, depth));
                let other = Box::new(other?);
                let how = match func_name.as_str() {
                    "startsWith" => TextTest::StartsWith(other),
                    "endsWith" => TextTest::EndsWith(other),
                    _ => TextTest::Contains(other),
                };
                Some((Node::Test(Box::new(text?), how), Type::Bool))
            }
            ("matches", [text, pattern]) => {
                let text = self.of_type(text, Type::Text, depth)?;
                let Expr::Literal(LiteralValue::String(written)) = &pattern.expr else {
                    return self.wrong(pattern, "a pattern must be written out", "write it in quotes");
                };
                match regex::RegexBuilder::new(written.inner()).size_limit(PATTERN_BYTES).build() {
                    Ok(regex) => Some((Node::Test(Box::new(text), TextTest::Matches(regex)), Type::Bool)),
                    Err(error) => {
                        let what = error.to_string();
                        let what = what.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                        self.wrong(pattern, format!("this pattern cannot be used: {what}"), "")
                    }
                }
            }
            ("domain_matches", [name, domains]) => {
                let name = self.of_type(name, Type::Text, depth)?;
                let mut domains = self.texts(domains, "write domains such as \"example.com\"")?;
                for domain in &mut domains {
                    *domain = domain.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
                }
                Some((Node::Test(Box::new(name), TextTest::DomainMatches(domains)), Type::Bool))
            }
            ("in_cidr", [address, networks]) => {
                let address = self.of_type(address, Type::Address, depth);
                let networks = self.networks(networks);
                Some((Node::InCidr(Box::new(address?), networks?), Type::Bool))
            }
            ("is_public", [address]) => {
                Some((Node::IsPublic(Box::new(self.of_type(address, Type::Address, depth)?)), Type::Bool))
            }
            ("lowerAscii", [text]) => Some((Node::Lower(Box::new(self.of_type(text, Type::Text, depth)?)), Type::Text)),
            ("size", [inner]) => {
                let (node, kind) = self.expression(inner, depth)?;
                if kind == Type::Text || kind.element().is_some() {
                    return Some((Node::Size(Box::new(node)), Type::Int));
                }
                self.wrong(inner, format!("a {kind} has no size"), "only texts and lists have one")
            }
            (name, operands) => {
                const KNOWN: [&str; 10] = [
                    "startsWith",
                    "endsWith",
                    "contains",
                    "matches",
                    "domain_matches",
                    "in_cidr",
                    "is_public",
                    "lowerAscii",
                    "size",
                    "cidr",
                ];
                if KNOWN.contains(&name) {
                    let message = format!("{name} does not take {} values", operands.len());
                    return self.wrong(expression, message, "docs/rules.md shows how functions are called");
                }
                let near = KNOWN.iter().map(|known| (strsim::jaro_winkler(name, known), known));
                let near = near.filter(|near| near.0 > 0.8).max_by(|left, right| left.0.total_cmp(&right.0));
                let help = match near {
                    Some((_, known)) => format!("did you mean {known}?"),
                    None => format!("write one of {}, has, exists, all", KNOWN.join(", ")),
                };
                self.wrong(expression, format!("there is no function {name}"), help)
            }
        }
    }

    /// Texts that are written out: one, or a list of them.
    fn texts(&mut self, expression: &IdedExpr, help: &str) -> Option<Vec<String>> {
        match self.expression(expression, 0)?.0 {
            Node::Text(text) => Some(vec![text]),
            Node::Texts(texts) => Some(texts),
            _ => {
                self.wrong(expression, "this must be written out", help);
                None
            }
        }
    }

    fn networks(&mut self, expression: &IdedExpr) -> Option<Vec<IpNet>> {
        let help = "write networks such as \"192.0.2.0/24\" or [\"10.0.0.0/8\", \"2001:db8::/32\"]";
        let texts = self.texts(expression, help)?;
        let mut networks = Vec::with_capacity(texts.len());
        for text in texts {
            if let Ok(network) = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                networks.push(network.trunc());
            } else {
                self.wrong(expression, format!("{text:?} is no network"), help);
                return None;
            }
        }
        Some(networks)
    }
}

/// Whether it is `cidr("…")`.
fn is_cidr(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Call(CallExpr { func_name, target: None, args }) if func_name == "cidr" && args.len() == 1)
}

/// `a.b.c` as it is written; `None` for anything else.
fn path_of(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", path_of(&select.operand)?, select.field)),
        _ => None,
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

/// Why a field can never be `text`: what to write instead.
fn refusal(values: Values, text: &str) -> Option<String> {
    match values {
        Values::Any => None,
        Values::Words(words) => (!words.contains(&text)).then(|| format!("write one of {}", words.join(", "))),
        Values::Country => {
            let is_code = text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_uppercase());
            (!is_code).then(|| "write two upper-case letters by ISO 3166-1, such as \"DE\"".to_owned())
        }
        Values::Digest => {
            let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
            let is_digest = text.len() == 64 && text.bytes().all(is_digit);
            (!is_digest).then(|| "write 64 lower-case hexadecimal digits".to_owned())
        }
    }
}
