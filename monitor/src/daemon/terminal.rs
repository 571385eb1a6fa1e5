//! The terminal that the monitor was started on, if it was.

use std::io::{self, IsTerminal};

/// Which of the standard streams were a terminal at the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal([bool; 3]);

impl Terminal {
    /// As the standard streams are now.
    pub(super) fn of_standard_streams() -> Self {
        Self([io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()])
    }

    /// Whether it was closed since: a terminal that is gone no longer says that it is one.
    pub(super) fn is_gone(self) -> bool {
        let Self(then) = self;
        let Self(now) = Self::of_standard_streams();
        then != [false; 3] && now == [false; 3]
    }
}
