//! The secret that the nodes of one cache share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use http::header::HeaderValue;

/// The token shared by the nodes of a cache, reread when its file changes.
#[derive(Debug, Clone, Default)]
pub struct Token {
    source: Option<Arc<TokenFile>>,
}

#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    current: RwLock<Arc<[u8]>>,
}

impl Token {
    /// The token in this file, blanks at its ends aside; `None`: the cache has none, and any node may ask.
    ///
    /// # Errors
    /// The file can't be read, or is empty.
    pub fn load(path: Option<PathBuf>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let current = RwLock::new(read_token(&path)?);
        Ok(Self {
            source: Some(Arc::new(TokenFile { path, current })),
        })
    }

    /// True when the cache has none.
    pub fn is_none(&self) -> bool {
        self.source.is_none()
    }

    /// Reads the file again; an unreadable or empty one leaves the token as it was.
    pub fn reload(&self) -> io::Result<()> {
        let Some(file) = &self.source else {
            return Ok(());
        };
        let fresh = read_token(&file.path)?;
        *file.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The bytes, or `None` when the cache has no token.
    pub fn bytes(&self) -> Option<Arc<[u8]>> {
        let file = self.source.as_ref()?;
        Some(
            file.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

fn read_token(path: &Path) -> io::Result<Arc<[u8]>> {
    let token = std::fs::read(path)?.trim_ascii().to_vec();
    if token.is_empty() || HeaderValue::from_bytes(&token).is_err() {
        let problem = format!(
            "{} holds no token: put one line of visible characters there",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(token.into())
}
