//! The public keys of whoever issues tokens, read from a file or an address and kept fresh.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, DecodingKey, jwk::JwkSet};
use tokio::{sync::Notify, time::sleep};

use super::JwtSettings;

/// A longer answer is no set of keys.
const KEYS_BYTES_MAX: usize = 262_144;
/// More keys are not held.
const KEYS_MAX: usize = 64;

/// Keys by their ids. A key without an id can be used only if it is alone.
type Keys = HashMap<Option<String>, Arc<DecodingKey>>;

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// Keys were never read.
    NotThereYet,
    /// None of them has this id.
    Unknown,
}

/// The keys as last read. Keys stay usable when a later reading fails.
#[derive(Default)]
pub struct KeySet {
    keys: RwLock<Option<Arc<Keys>>>,
    wanted: Notify,
}

#[derive(Clone)]
enum Source {
    File(String),
    Url { client: reqwest::Client, url: String },
}

impl KeySet {
    /// Reads the keys and keeps them fresh until the set is dropped. An address that does not answer is asked again.
    ///
    /// # Errors
    /// A file that is not there or holds no usable key.
    pub async fn keep(settings: &JwtSettings, algorithm: Algorithm) -> anyhow::Result<Arc<Self>> {
        let set = Arc::new(Self::default());
        let source = if settings.jwks_file.is_empty() {
            let client = reqwest::Client::builder()
                .timeout(Duration::from_millis(settings.fetch_timeout_ms))
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .context("cannot make a client for identity.jwt.jwks_url")?;
            Source::Url { client, url: settings.jwks_url.clone() }
        } else {
            Source::File(settings.jwks_file.clone())
        };
        match (source.read(algorithm).await, &source) {
            (Ok(keys), _) => set.put(keys),
            (Err(error), Source::File(_)) => return Err(error.context("identity.jwt.jwks_file")),
            (Err(error), Source::Url { .. }) => warn(&error),
        }
        let every = Duration::from_secs(settings.refresh_s);
        let at_least = Duration::from_secs(settings.refresh_min_s);
        tokio::spawn(refresh(Arc::downgrade(&set), source, algorithm, every, at_least));
        Ok(set)
    }

    /// The key with this id. One that is not known makes the keys be read again, but never more often than set.
    ///
    /// # Errors
    /// See [`NoKey`].
    pub fn find(&self, id: Option<&str>) -> Result<Arc<DecodingKey>, NoKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let found = match (&keys, id) {
            (None, _) => Err(NoKey::NotThereYet),
            (Some(keys), Some(id)) => keys.get(&Some(id.to_owned())).cloned().ok_or(NoKey::Unknown),
            (Some(keys), None) if keys.len() == 1 => keys.values().next().cloned().ok_or(NoKey::Unknown),
            (Some(_), None) => Err(NoKey::Unknown),
        };
        if found.is_err() {
            self.wanted.notify_one();
        }
        found
    }

    fn put(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
    }

    fn is_empty(&self) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

fn warn(error: &anyhow::Error) {
    tracing::warn!(error = format!("{error:#}"), "the keys that tokens are checked with cannot be read");
}

async fn refresh(set: Weak<KeySet>, source: Source, algorithm: Algorithm, every: Duration, at_least: Duration) {
    loop {
        // The pause comes first: the keys were just read.
        sleep(at_least).await;
        let Some(held) = set.upgrade() else { return };
        let rest = if held.is_empty() { Duration::ZERO } else { every.saturating_sub(at_least) };
        tokio::select! {
            () = sleep(rest) => {}
            () = held.wanted.notified() => {}
        }
        match source.read(algorithm).await {
            Ok(keys) => held.put(keys),
            Err(error) => warn(&error),
        }
    }
}

impl Source {
    async fn read(&self, algorithm: Algorithm) -> anyhow::Result<Keys> {
        let text = match self {
            Self::File(path) => {
                let bytes_max = u64::try_from(KEYS_BYTES_MAX).unwrap_or(u64::MAX);
                let length = tokio::fs::metadata(path).await.with_context(|| path.clone())?.len();
                ensure!(length <= bytes_max, "the file is longer than {KEYS_BYTES_MAX} bytes");
                tokio::fs::read(path).await.with_context(|| path.clone())?
            }
            Self::Url { client, url } => {
                let mut response = client.get(url).send().await?.error_for_status()?;
                let mut text = Vec::new();
                while let Some(piece) = response.chunk().await? {
                    ensure!(
                        text.len().saturating_add(piece.len()) <= KEYS_BYTES_MAX,
                        "the answer is longer than {KEYS_BYTES_MAX} bytes"
                    );
                    text.extend_from_slice(&piece);
                }
                text
            }
        };
        usable(&text, algorithm)
    }
}

/// The keys of a set that can check signatures of this algorithm.
fn usable(text: &[u8], algorithm: Algorithm) -> anyhow::Result<Keys> {
    let set: JwkSet = serde_json::from_slice(text).context("this is no JWKS")?;
    ensure!(set.keys.len() <= KEYS_MAX, "there are more than {KEYS_MAX} keys");
    let mut keys = Keys::new();
    for jwk in &set.keys {
        let named = jwk.common.key_algorithm.map(|named| format!("{named:?}"));
        if named.is_some_and(|named| named != format!("{algorithm:?}")) {
            continue;
        }
        // A key of a kind that this algorithm does not use is for somebody else.
        if let Ok(key) = DecodingKey::from_jwk(jwk)
            && key.family().algorithms().contains(&algorithm)
        {
            keys.insert(jwk.common.key_id.clone(), Arc::new(key));
        }
    }
    ensure!(!keys.is_empty(), "there is no key for {algorithm:?} in it");
    Ok(keys)
}
