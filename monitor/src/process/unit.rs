//! The systemd unit in a cgroup's path.

/// Unit types that hold processes of their own. A slice only groups them.
/// Source: systemd.unit(5) and systemd.resource-control(5).
const SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Longest unit name, `UNIT_NAME_MAX` of systemd.
const NAME_BYTES: usize = 255;

/// The most specific unit of a path: the innermost component that is the name of a unit, with `\xNN` decoded, so that
/// it reads as people know it. For `…/user@1000.service/app.slice/app-firefox.scope` that is `app-firefox.scope`.
pub(super) fn unit(path: &str) -> Option<String> {
    path.split('/').rev().find_map(unit_name)
}

fn unit_name(component: &str) -> Option<String> {
    // systemd puts an underscore before names that would collide with the kernel's files (cg_escape).
    let name = component.strip_prefix('_').unwrap_or(component);
    let stem = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
    let well_formed = !stem.is_empty()
        && name.len() <= NAME_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
    well_formed.then(|| unescape(name))
}

/// Decodes `\xNN` as systemd writes it. A name that would not be printable text stays as it is.
pub(super) fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.strip_prefix(b"x").and_then(|digits| digits.split_at_checked(2));
        match escaped.and_then(|(digits, after)| Some((byte_of_hex(digits)?, after))) {
            Some((byte, after)) if *first == b'\\' => {
                bytes.push(byte);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(decoded) if !decoded.chars().any(char::is_control) => decoded,
        _ => name.to_owned(),
    }
}

fn byte_of_hex(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_innermost_unit_is_named() {
        for (path, expected) in [
            ("/", None),
            ("", None),
            ("/init.scope", Some("init.scope")),
            ("/system.slice", None),
            ("/system.slice/sshd.service", Some("sshd.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice/user-1000.slice/user@1000.service", Some("user@1000.service")),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some("init.scope")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope", Some("app-firefox.scope")),
            (
                r"/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-8c5e.scope",
                Some("vte-spawn-8c5e.scope"),
            ),
            (
                r"/user.slice/user-0.slice/user@0.service/app.slice/app-gnome-org.mozilla.firefox\x2desr-2871.scope",
                Some("app-gnome-org.mozilla.firefox-esr-2871.scope"),
            ),
            (r"/system.slice/dev-disk-by\x2duuid.swap", Some("dev-disk-by-uuid.swap")),
            ("/system.slice/docker.service/supervisor", Some("docker.service")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            (r"/system.slice/a\x0ab.service", Some(r"a\x0ab.service")),
            (r"/system.slice/a\xzz.service", Some(r"a\xzz.service")),
            ("/system.slice/caf\\xc3\\xa9.service", Some("café.service")),
            ("/docker/0123", None),
            ("/my.service.d/x", None),
            ("/.service", None),
            ("/with space.service", None),
        ] {
            assert_eq!(unit(path).as_deref(), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read(path in any::<String>()) {
            if let Some(unit) = unit(&path) {
                prop_assert!(SUFFIXES.iter().any(|suffix| unit.ends_with(suffix)) || unit.contains('\\') || path.contains('\\'));
            }
        }

        #[test]
        fn what_is_not_escaped_stays(name in "[a-z@:._-]{0,40}") {
            prop_assert_eq!(unescape(&name), name);
        }
    }
}
