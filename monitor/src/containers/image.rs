//! The parts of an image's name.

/// An image's name in its parts, as registries and runtimes write it: `[registry[:port]/]path[:tag][@digest]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageName<'a> {
    /// Registry and path; `None` where the image is only known by its digest.
    pub name: Option<&'a str>,
    /// Tag.
    pub tag: Option<&'a str>,
    /// Digest, with its algorithm in front.
    pub digest: Option<&'a str>,
}

impl<'a> ImageName<'a> {
    /// Takes a name apart. Whatever it is, it has parts.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        if is_digest(text) {
            return Self { digest: Some(text), ..Self::default() };
        }
        let (rest, digest) = match text.rsplit_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest)),
            _ => (text, None),
        };
        // A colon before the last slash is that of a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && !tag.is_empty() => (name, Some(tag)),
            _ => (rest, None),
        };
        Self { name: (!name.is_empty()).then_some(name), tag, digest }
    }
}

/// `sha256:` and 64 hexadecimal digits, or another algorithm's.
fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, digits)| {
        matches!(algorithm, "sha256" | "sha384" | "sha512")
            && digits.len() >= 64
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_names() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        let at_digest = format!("registry.example:5000/shop/web@{digest}");
        let with_both = format!("docker.io/library/nginx:1.27@{digest}");
        let digest = digest.as_str();
        for (text, name, tag, of_digest) in [
            ("nginx", Some("nginx"), None, None),
            ("nginx:1.27", Some("nginx"), Some("1.27"), None),
            ("registry.example:5000/shop/web", Some("registry.example:5000/shop/web"), None, None),
            ("registry.example:5000/shop/web:v2", Some("registry.example:5000/shop/web"), Some("v2"), None),
            (&at_digest, Some("registry.example:5000/shop/web"), None, Some(digest)),
            (&with_both, Some("docker.io/library/nginx"), Some("1.27"), Some(digest)),
            (digest, None, None, Some(digest)),
            ("sha256:short", Some("sha256"), Some("short"), None),
            ("", None, None, None),
            (":", Some(":"), None, None),
        ] {
            assert_eq!(ImageName::parse(text), ImageName { name, tag, digest: of_digest }, "{text}");
        }
    }
}
