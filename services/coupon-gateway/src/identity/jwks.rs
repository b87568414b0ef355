//! The public keys of whoever issues tokens, read from a file or an address and kept fresh.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use anyhow::{Context, ensure};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Deserialize;
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
    /// Held by the reader, too, so that it can wait without holding the set.
    wanted: Arc<Notify>,
}

impl Drop for KeySet {
    fn drop(&mut self) {
        // The reader wakes up, finds no set and ends.
        self.wanted.notify_one();
    }
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
    let Some(wanted) = set.upgrade().map(|held| Arc::clone(&held.wanted)) else { return };
    loop {
        // The pause comes first: the keys were just read.
        sleep(at_least).await;
        let Some(empty) = set.upgrade().map(|held| held.is_empty()) else { return };
        let rest = if empty { Duration::ZERO } else { every.saturating_sub(at_least) };
        tokio::select! {
            () = sleep(rest) => {}
            () = wanted.notified() => {}
        }
        if set.strong_count() == 0 {
            return;
        }
        match (source.read(algorithm).await, set.upgrade()) {
            (_, None) => return,
            (Ok(keys), Some(held)) => held.put(keys),
            (Err(error), Some(_)) => warn(&error),
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

/// A set as it is written: a key that cannot be read must not cost the others.
#[derive(Deserialize)]
struct Written {
    keys: Vec<serde_json::Value>,
}

/// The keys of a set that can check signatures of this algorithm.
fn usable(text: &[u8], algorithm: Algorithm) -> anyhow::Result<Keys> {
    let set: Written = serde_json::from_slice(text).context("this is no JWKS")?;
    ensure!(set.keys.len() <= KEYS_MAX, "there are more than {KEYS_MAX} keys");
    let mut keys = Keys::new();
    for jwk in set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()) {
        let named = jwk.common.key_algorithm.map(|named| format!("{named:?}"));
        let for_another = named.is_some_and(|named| named != format!("{algorithm:?}"));
        if for_another || jwk.common.public_key_use.as_ref().is_some_and(|what| *what != PublicKeyUse::Signature) {
            continue;
        }
        // A key of a kind that this algorithm does not use is for somebody else.
        if let Ok(key) = DecodingKey::from_jwk(&jwk)
            && key.family().algorithms().contains(&algorithm)
        {
            keys.insert(jwk.common.key_id, Arc::new(key));
        }
    }
    ensure!(!keys.is_empty(), "there is no key for {algorithm:?} in it");
    Ok(keys)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::{Value, json};
    use testkit::TestFolder;
    use tokio::time::timeout;

    use super::*;

    const POINT: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    /// A key of Ed25519 with this id.
    fn okp(id: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": POINT})
    }

    fn ids(keys: &[Value], algorithm: Algorithm) -> Option<Vec<String>> {
        let keys = usable(json!({ "keys": keys }).to_string().as_bytes(), algorithm).ok()?;
        let mut ids: Vec<String> = keys.into_keys().map(|id| id.unwrap_or_default()).collect();
        ids.sort();
        Some(ids)
    }

    #[test]
    fn only_keys_that_check_signatures_of_the_algorithm_are_taken() {
        let with = |id: &str, name: &str, value: &str| {
            let mut key = okp(id);
            key[name] = value.into();
            key
        };
        let set = [
            okp("plain"),
            with("signs", "use", "sig"),
            with("named", "alg", "EdDSA"),
            with("encrypts", "use", "enc"),
            with("another", "alg", "ES256"),
            with("curve", "crv", "X25519"),
            with("broken", "x", "?"),
            json!({"kty": "AKP", "kid": "of a kind yet to come"}),
            json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}),
            json!({"kid": 7}),
            json!("no key at all"),
        ];
        assert_eq!(ids(&set, Algorithm::EdDSA).unwrap(), ["named", "plain", "signs"]);
        assert_eq!(ids(&set, Algorithm::RS256), None, "a set without a usable key is none");
        assert_eq!(ids(&[], Algorithm::EdDSA), None);
        assert!(usable(b"{}", Algorithm::EdDSA).is_err() && usable(b"<html>", Algorithm::EdDSA).is_err());
        let many: Vec<Value> = (0..=KEYS_MAX).map(|number| okp(&number.to_string())).collect();
        assert_eq!(ids(&many[1..], Algorithm::EdDSA).map(|ids| ids.len()), Some(KEYS_MAX));
        assert_eq!(ids(&many, Algorithm::EdDSA), None, "more are not held");
    }

    async fn kept(folder: &TestFolder, keys: &[Value]) -> anyhow::Result<Arc<KeySet>> {
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, json!({ "keys": keys }).to_string())?;
        let jwks_file = path.to_str().unwrap().to_owned();
        let settings = JwtSettings { jwks_file, refresh_min_s: 1, ..JwtSettings::default() };
        KeySet::keep(&settings, Algorithm::EdDSA).await
    }

    #[tokio::test]
    async fn a_key_is_found_by_its_id_or_because_it_is_alone() {
        let folder = TestFolder::new("key-ids");
        let one = kept(&folder, &[okp("a")]).await.unwrap();
        assert!(one.find(Some("a")).is_ok() && one.find(None).is_ok());
        assert_eq!(one.find(Some("b")).err(), Some(NoKey::Unknown));
        let two = kept(&folder, &[okp("a"), okp("b")]).await.unwrap();
        assert!(two.find(Some("b")).is_ok());
        assert_eq!(two.find(None).err(), Some(NoKey::Unknown), "a guess among several");
        assert_eq!(KeySet::default().find(Some("a")).err(), Some(NoKey::NotThereYet));
        assert!(kept(&folder, &[]).await.is_err(), "a file without keys is told at the start");
    }

    #[tokio::test]
    async fn the_reader_ends_with_the_set() {
        let folder = TestFolder::new("reader");
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, json!({"keys": [okp("a")]}).to_string()).unwrap();
        let source = Source::File(path.to_str().unwrap().to_owned());
        let set = Arc::new(KeySet::default());
        let every = Duration::from_secs(3_600);
        let reader = tokio::spawn(refresh(Arc::downgrade(&set), source, Algorithm::EdDSA, every, Duration::ZERO));
        let read = async {
            while set.is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), read).await.unwrap();
        // On this one thread the reader's pause of nothing ends before a later timer does: then it waits for an hour, and
        // must not hold the set meanwhile.
        sleep(Duration::from_millis(20)).await;
        tokio::task::yield_now().await;
        let gone = Arc::downgrade(&set);
        drop(set);
        assert_eq!(gone.strong_count(), 0);
        timeout(Duration::from_secs(10), reader).await.unwrap().unwrap();
    }
}
