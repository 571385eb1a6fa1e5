//! What is compared with what, and looked for in what: like with like, and no value that a field can never have.

use std::net::IpAddr;

use cel::IdedExpr;

use super::{Compiler, Typed};
use crate::policy::rules::{
    expression::{Comparison, Node},
    fields::Type,
};

impl Compiler<'_> {
    pub(super) fn compare(
        &mut self,
        whole: &IdedExpr,
        how: Comparison,
        left: &IdedExpr,
        right: &IdedExpr,
        depth: u16,
    ) -> Typed {
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
                return self.wrong(whole, format!("{left_kind:#} is compared with {right_kind:#}"), help);
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
        self.check_values(how, (left, &left_node), (right, &right_node));
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

    pub(super) fn is_in(&mut self, element: &IdedExpr, list: &IdedExpr, depth: u16) -> Typed {
        let (element_typed, list_typed) = (self.expression(element, depth), self.expression(list, depth));
        let ((element_node, kind), (list_node, list_kind)) = (element_typed?, list_typed?);
        let list_node = match (kind, &list_node) {
            (Type::Address, Node::Texts(texts)) => {
                let addresses: Option<Vec<IpAddr>> =
                    texts.iter().map(|text| text.parse().ok().map(|address: IpAddr| address.to_canonical())).collect();
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
                return self.wrong(list, format!("a string is looked for in {list_kind:#}"), help);
            }
            _ => {
                return self.wrong(
                    list,
                    format!("{kind:#} is looked for in {list_kind:#}"),
                    "write a list such as [1, 2] or [\"a\", \"b\"]",
                );
            }
        };
        self.check_values(Comparison::Equal, (element, &element_node), (list, &list_node));
        Some((Node::In(Box::new(element_node), Box::new(list_node)), Type::Bool))
    }
}
