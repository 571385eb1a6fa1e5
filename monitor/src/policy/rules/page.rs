//! `docs/rules.md`: made from the table of fields and the built-in rules.

use std::fmt::Write as _;

use super::{
    Rules,
    compile::{CONDITION_BYTES, DEPTH_OF_LISTS, NESTING, NODES, PATTERN_BYTES},
    fields::FIELDS,
    threshold::KEYS,
};

/// The documentation of rules, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(include_str!("page_head.md"));
    text.push_str("\n## Fields\n\n| field | type | meaning |\n| --- | --- | --- |\n");
    for row in FIELDS {
        let _ = writeln!(text, "| `{}` | {} | {} |", row.path, row.kind, row.about);
    }
    let _ = write!(
        text,
        "\n## Limits\n\nA condition has at most {CONDITION_BYTES} bytes, {NODES} parts, {NESTING} levels of nesting, and {DEPTH_OF_LISTS} \
         `exists` or `all` within one another. A compiled pattern takes at most {} kB. A rule remembers at most {KEYS} keys for\n\
         its threshold and {KEYS} for its alerts; the one that was used longest ago is given up first, after what it held back\n\
         has been told.\n",
        PATTERN_BYTES / 1024
    );
    text.push_str("\n## Built-in rules\n\n| id | on | severity | finds |\n| --- | --- | --- | --- |\n");
    if let Ok(rules) = Rules::new(&[], &[], &[], None) {
        for header in rules.headers() {
            let on = if header.enabled { "yes" } else { "no" };
            let severity = format!("{:?}", header.severity).to_lowercase();
            let _ = writeln!(text, "| `{}` | {on} | {severity} | {} |", header.id, header.title);
        }
    }
    text
}
