//! Functions: what they take, and what they take only if it is written out, so that it is read once and not per flow.

use std::net::IpAddr;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue},
};
use ipnet::IpNet;

use super::{Compiler, PATTERN_BYTES, Typed};
use crate::{
    mistakes::nearest_word,
    policy::{
        rules::{
            expression::{Node, TextTest},
            fields::Type,
        },
        value,
    },
};

impl Compiler<'_> {
    pub(super) fn function(&mut self, expression: &IdedExpr, call: &CallExpr, depth: u16) -> Typed {
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
                let written = self.texts(domains, "write domains such as \"example.com\"")?;
                let domains = self.domains(domains, &written)?;
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
                self.wrong(inner, format!("{kind:#} has no size"), "only texts and lists have one")
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
                let help = match nearest_word(name, KNOWN) {
                    Some(known) => format!("did you mean {known}?"),
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

    /// Names of domains in the form in which names are compared with them.
    fn domains(&mut self, expression: &IdedExpr, written: &[String]) -> Option<Vec<String>> {
        let mut domains = Vec::with_capacity(written.len());
        for text in written {
            match value::domain(text) {
                Ok(domain) => domains.push(domain.0.to_string()),
                Err(problem) => {
                    let problem = problem.replacen(
                        "write ",
                        &format!("{text:?} is no domain name: write "),
                        usize::from(problem.starts_with("write ")),
                    );
                    let (message, help) =
                        problem.split_once(": write ").unwrap_or((&problem, "domains such as \"example.com\""));
                    self.wrong(expression, message, format!("write {help}"));
                    return None;
                }
            }
        }
        Some(domains)
    }

    fn networks(&mut self, expression: &IdedExpr) -> Option<Vec<IpNet>> {
        let help = "write networks such as \"192.0.2.0/24\" or [\"10.0.0.0/8\", \"2001:db8::/32\"]";
        let texts = self.texts(expression, help)?;
        let mut networks = Vec::with_capacity(texts.len());
        for text in texts {
            if let Ok(network) = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                networks.push(value::canonical(network.trunc()));
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
