//! Why a read failed.

use std::sync::Arc;
use std::time::Duration;

use crate::fill::Abandoned;
use crate::object::{Head, Relayed, Said};
use crate::store::Absent;
use crate::{fill, origin};

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// S3 has no such object.
    #[error("{code}: {message}")]
    Absent {
        /// S3's code.
        code: String,
        /// S3's words.
        message: String,
        /// What else S3 said.
        said: Option<Arc<Said>>,
    },
    /// The range lies outside the object.
    #[error("the range lies outside the object of {} bytes", head.size)]
    Unsatisfiable {
        /// The object's head.
        head: Arc<Head>,
    },
    /// S3 failed or refused.
    #[error(transparent)]
    Origin(Arc<origin::Error>),
    /// Another node asked S3 and passed on what it heard.
    #[error(transparent)]
    Relayed(Relayed),
    /// Overwritten again and again while it was read.
    #[error("the object is overwritten faster than it can be read: try again")]
    VersionChanged,
    /// The budget is spent on what is being read at this moment.
    #[error("no memory left to read through: raise --max-cache-size or lower the load")]
    NoMemory,
    /// The read was given up, for a reason that says nothing of the object.
    #[error("the read was given up: {0}; try again")]
    Abandoned(Abandoned),
    /// No response from any source in time.
    #[error("no first byte within {} ms", after.as_millis())]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
}

impl From<&Absent> for Error {
    fn from(absent: &Absent) -> Self {
        Self::Absent {
            code: absent.code.clone(),
            message: absent.message.clone(),
            said: absent.said.clone(),
        }
    }
}

impl Error {
    /// Why a version that is known could not be read. One that is gone, or shorter than it was, is another version by
    /// now.
    pub(super) fn from_read_of_known(error: origin::Error) -> Self {
        match error {
            origin::Error::VersionChanged
            | origin::Error::NotFound { .. }
            | origin::Error::RangeNotSatisfiable => Self::VersionChanged,
            error => Self::Origin(Arc::new(error)),
        }
    }
}

impl From<fill::Error> for Error {
    fn from(error: fill::Error) -> Self {
        match error {
            fill::Error::Origin(error) => Self::Origin(error),
            fill::Error::Relayed(relayed) => Self::Relayed(relayed),
            fill::Error::VersionChanged => Self::VersionChanged,
            fill::Error::NoMemory => Self::NoMemory,
            fill::Error::Abandoned(why) => Self::Abandoned(why),
        }
    }
}

impl Error {
    /// What else S3 said with its refusal.
    pub fn said(&self) -> Option<&Arc<Said>> {
        match self {
            Self::Absent { said, .. } => said.as_ref(),
            Self::Relayed(relayed) => relayed.said.as_ref(),
            Self::Origin(error) => error.said(),
            _ => None,
        }
    }

    /// S3 is unavailable or overloaded; it did not refuse.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Origin(error) => error.is_outage(),
            Self::Relayed(relayed) => relayed.status >= 500,
            Self::Timeout { .. } => true,
            Self::Absent { .. }
            | Self::Unsatisfiable { .. }
            | Self::VersionChanged
            | Self::NoMemory
            | Self::Abandoned(_) => false,
        }
    }
}
