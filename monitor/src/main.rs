//! The command line of `egresswatch`.

fn main() {}
