//! What messages about mistakes in texts have in common: where one stands, and what was probably meant.

/// The line of a byte, from 1, and what stands before it there.
pub(crate) fn line_and_prefix(text: &str, offset: usize) -> (usize, &str) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before.get(line_start..).unwrap_or_default())
}

/// The line and the column, in characters, of a byte; both from 1.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let (line, prefix) = line_and_prefix(text, offset);
    (line, prefix.chars().count() + 1)
}

/// What is most like what was written, if anything is.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    nearest_by(|known| strsim::jaro_winkler(written, known), known)
}

/// The same among words, of which short ones with a slip are hardly alike by that measure.
pub(crate) fn nearest_word<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let is_slip = |known: &str| written.len() > 2 && strsim::osa_distance(written, known) == 1;
    let slip = |known: &str| if is_slip(known) { 0.9 } else { 0.0 };
    nearest_by(|known| strsim::jaro_winkler(written, known).max(slip(known)), known)
}

fn nearest_by<'k>(likeness: impl Fn(&str) -> f64, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = known.into_iter().map(|known| (likeness(known), known)).filter(|(likeness, _)| *likeness > 0.8);
    near.max_by(|left, right| left.0.total_cmp(&right.0)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_characters() {
        let text = "a = 1\nü = \"ß\" x\n";
        assert_eq!(line_and_prefix(text, 0), (1, ""));
        assert_eq!(line_and_column(text, text.find('x').unwrap()), (2, 9));
        assert_eq!(line_and_column(text, text.len() + 9), (3, 1));
    }

    #[test]
    fn what_is_alike_is_near_and_another_word_is_not() {
        let known = ["tcp", "udp", "destination.port"];
        assert_eq!(nearest("destination.ports", known), Some("destination.port"));
        assert_eq!([nearest("tpc", known), nearest_word("tpc", known)], [None, Some("tcp")]);
        assert_eq!([nearest("colour", known), nearest_word("colour", known)], [None, None]);
    }
}
