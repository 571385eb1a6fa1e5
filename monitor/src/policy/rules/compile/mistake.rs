//! What is wrong with a condition, where, and what to write instead.

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::rules) struct Mistake {
    /// Where, in bytes from the condition's beginning.
    pub(in crate::policy::rules) offset: usize,
    pub(in crate::policy::rules) message: String,
    pub(in crate::policy::rules) help: Option<String>,
}

pub(super) fn mistake(offset: usize, message: impl Into<String>, help: impl Into<String>) -> Mistake {
    Mistake { offset, message: message.into(), help: Some(help.into()).filter(|help| !help.is_empty()) }
}

/// What the parser says, with its lines and columns turned into offsets.
pub(super) fn syntax(text: &str, errors: &cel::ParseErrors) -> Vec<Mistake> {
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
