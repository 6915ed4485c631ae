//! Why a command line is refused, and how that is reported.

use std::fmt::Display;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::discovery::PeersError;

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line can't be read, or asks for help or the version.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// A value is out of its bounds, or flags that are valid alone conflict.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Prints it: help and version to the standard output, mistakes to the error output. The code is 0 or 2.
    pub fn report(self) -> ExitCode {
        let error = match self {
            Self::Usage(error) => error,
            Self::Refused(message) => clap::Error::raw(
                ErrorKind::ArgumentConflict,
                format!("{message}\n\nFor more information, try '--help'.\n"),
            ),
        };
        // If printing fails, there is nowhere left to say so.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    }
}

impl From<PeersError> for Error {
    fn from(error: PeersError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// A refusal with this message.
pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::Refused(message.into())
}

/// The refusal of one value: `--flag must be WHAT; got GOT`. The way out, where there is one, follows what was got.
pub(super) fn must_be(flag: &str, what: &str, got: impl Display) -> Error {
    Error::Refused(format!("--{flag} must be {what}; got {got}"))
}
