use std::{collections::BTreeSet, fs};

use super::*;
use crate::kernel::degradation::Degradation;

#[test]
fn names_are_unique_and_every_row_is_proven() {
    let tokens: BTreeSet<_> = ROWS.iter().map(|row| row.token).chain(LIMITS.iter().map(|limit| limit.token)).collect();
    assert_eq!(tokens.len(), ROWS.len() + LIMITS.len(), "a name twice");
    for row in ROWS {
        assert!(!row.tests.is_empty(), "{} has no test", row.token);
        assert!(
            row.token.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        );
        for text in [row.what].into_iter().chain(Rung::ALL.into_iter().filter_map(|rung| row.on(rung).note())) {
            assert!(!text.contains(['|', '\n']) && !text.ends_with('.'), "{text:?} does not fit a cell");
        }
    }
    assert!(Group::ALL.into_iter().all(|group| ROWS.iter().any(|row| row.group == group)), "an empty group");
}

/// A higher rung may only see more.
#[test]
fn no_rung_sees_less_than_the_one_below() {
    let rank = |sight| match sight {
        Sight::Seen => 2,
        Sight::Partly(_) => 1,
        Sight::NotSeen(_) => 0,
    };
    for row in ROWS {
        for (lower, higher) in Rung::ALL.into_iter().zip(Rung::ALL.into_iter().skip(1)) {
            assert!(rank(row.on(lower)) <= rank(row.on(higher)), "{} on {higher}", row.token);
        }
    }
}

/// What a host loses by its rung is told at start by a degradation, which is made from these rows.
#[test]
fn the_degradation_tells_the_same_story() {
    let rows: Vec<_> = lost_on(Rung::Base).map(|row| row.token).collect();
    assert!(rows.contains(&"inherited_by_child") && !rows.contains(&"tcp"), "{rows:?}");
    let degradation = Degradation::NoSenderRung { cause: "old".to_owned() };
    assert_eq!(degradation.rows(), rows);
    assert!(rows.iter().all(|row| degradation.to_string().contains(row)), "{degradation}");
}

#[test]
fn features_are_read_from_procfs() {
    let proc = tempfile::tempdir().expect("a folder");
    assert_eq!(Features::read(proc.path()), Features { mptcp: false, sctp: false, io_uring: true });
    for folder in ["sys/net/mptcp", "sys/kernel", "net"] {
        fs::create_dir_all(proc.path().join(folder)).expect("a folder");
    }
    fs::write(proc.path().join("sys/net/mptcp/enabled"), "1\n").expect("a file");
    fs::write(proc.path().join("sys/kernel/io_uring_disabled"), "2\n").expect("a file");
    fs::write(proc.path().join("net/protocols"), "protocol  size\nSCTPv6    1\nSCTP      1480      0\n")
        .expect("a file");
    let features = Features::read(proc.path());
    assert_eq!(features, Features { mptcp: true, sctp: true, io_uring: false });
    assert_eq!(features.absent(Needs::Mptcp), None);
    assert!(features.absent(Needs::IoUring).is_some());
    assert_eq!(features.absent(Needs::Nothing), None);
}
