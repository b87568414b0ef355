//! From settings to adapters.

use std::{collections::BTreeMap, sync::Arc};

use domain::payment::ProviderName;

use crate::{
    generic::Generic,
    http::Http,
    port::PaymentProvider,
    settings::{ProviderKind, ProviderSettings},
    stripe::Stripe,
    toss::Toss,
};

/// Why there are no adapters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A name that no payment could carry.
    #[error("`{0}` is no name for a payment gateway: give small letters, digits, - and _")]
    Name(String),
    /// A setting that cannot be used.
    #[error("the payment gateway `{name}`: {field} {problem}; {fix}")]
    Setting {
        /// Whose.
        name: String,
        /// The setting.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client of the payment gateway `{0}` cannot be made: {1}")]
    Client(String, String),
}

/// The adapters of all merchant accounts, by the names that payments carry. Cheap to clone.
#[derive(Clone, Default)]
pub struct Providers(Arc<BTreeMap<ProviderName, Arc<dyn PaymentProvider>>>);

impl Providers {
    /// Makes one adapter for each account.
    ///
    /// # Errors
    /// The first name or setting that cannot be used; [`ProviderSettings::problems`] tells them all.
    pub fn build<'a>(accounts: impl IntoIterator<Item = (&'a String, &'a ProviderSettings)>) -> Result<Self, BuildError> {
        let mut all = BTreeMap::new();
        for (name, settings) in accounts {
            let provider = Self::one(name, settings)?;
            all.insert(provider.name().clone(), provider);
        }
        Ok(Self(Arc::new(all)))
    }

    /// One adapter.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn one(name: &str, settings: &ProviderSettings) -> Result<Arc<dyn PaymentProvider>, BuildError> {
        let id = ProviderName::new(name).map_err(|_| BuildError::Name(name.to_owned()))?;
        if let Some(first) = settings.problems().into_iter().next() {
            return Err(BuildError::Setting {
                name: name.to_owned(),
                field: first.field,
                problem: first.problem,
                fix: first.fix,
            });
        }
        let http = Http::new(settings).map_err(|error| BuildError::Client(name.to_owned(), error))?;
        Ok(match settings.kind {
            ProviderKind::Generic => Arc::new(Generic::new(id, http, settings)),
            ProviderKind::Toss => Arc::new(Toss::new(id, http, settings)),
            ProviderKind::Stripe => Arc::new(Stripe::new(id, http, settings)),
        })
    }

    /// Of given adapters, such as fakes.
    pub fn of(adapters: impl IntoIterator<Item = Arc<dyn PaymentProvider>>) -> Self {
        Self(Arc::new(adapters.into_iter().map(|adapter| (adapter.name().clone(), adapter)).collect()))
    }

    /// The adapter that a payment names.
    #[must_use]
    pub fn get(&self, name: &ProviderName) -> Option<&Arc<dyn PaymentProvider>> {
        self.0.get(name)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<dyn PaymentProvider>> {
        self.0.values().map(Arc::clone).collect()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ProviderName, &Arc<dyn PaymentProvider>)> {
        self.0.iter()
    }
}
