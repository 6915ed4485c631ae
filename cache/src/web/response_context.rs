//! What a handler says of its answer, for the log and the metrics. It travels in the response's extensions to the
//! middleware.

use axum::response::Response;

use crate::object::Source;

/// The label of answers that were not read from anywhere.
pub(super) const NO_SOURCE: &str = "none";

/// What an answer is about, and where it was read from.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseContext {
    /// The object or prefix, for the access log.
    pub(crate) key: Option<String>,
    /// Where the answer was read from; `None`: it was not read from anywhere.
    pub(crate) source: Option<Source>,
}

impl ResponseContext {
    /// For an answer that was read from `source`.
    pub(crate) fn read_from(source: Source) -> Self {
        Self {
            key: None,
            source: Some(source),
        }
    }

    /// The same, about an object or a prefix.
    #[must_use]
    pub(crate) fn about(self, key: String) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// Attaches this to `response`.
    pub(crate) fn attach(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }

    /// The label of metrics, and the word of `x-falcon-cache`.
    pub(super) fn source(&self) -> &'static str {
        self.source.map_or(NO_SOURCE, Source::as_str)
    }
}

/// The operation, as metrics call it; for handlers that know it better than the path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op(pub(crate) &'static str);
