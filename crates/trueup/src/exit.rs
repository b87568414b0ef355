//! How a command can end.

use std::process::ExitCode;

/// How a command can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; for audit and drill: clean.
    Done,
    /// A difference was found, or the command was refused.
    Difference,
    /// It cannot be told, or could not be done.
    CannotTell,
    /// The command line is wrong.
    Usage,
}

impl Exit {
    /// The exit status.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Difference => 1,
            Self::CannotTell => 2,
            Self::Usage => 64,
        }
    }

    /// The name of an audit's or drill's verdict.
    #[must_use]
    pub const fn verdict(self) -> &'static str {
        match self {
            Self::Done => "clean",
            Self::Difference => "difference",
            Self::CannotTell | Self::Usage => "cannot_tell",
        }
    }

    /// The worse of two: a difference that was found outweighs what cannot be told.
    #[must_use]
    pub const fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Usage, _) | (_, Self::Usage) => Self::Usage,
            (Self::Difference, _) | (_, Self::Difference) => Self::Difference,
            (Self::CannotTell, _) | (_, Self::CannotTell) => Self::CannotTell,
            (Self::Done, Self::Done) => Self::Done,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
