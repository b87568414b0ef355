//! Amounts: whole minor units with their currency, and checked arithmetic.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An ISO 4217 code in capitals, such as `KRW`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// A text that is no currency code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an ISO 4217 code: give three letters such as KRW")]
pub struct CurrencyError;

impl Currency {
    /// The South Korean won, whose minor unit is the won itself.
    pub const KRW: Self = Self(*b"KRW");

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    /// Takes small letters, too, because some gateways write them.
    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| CurrencyError)?;
        if code.iter().all(u8::is_ascii_alphabetic) {
            Ok(Self(code.map(|byte| byte.to_ascii_uppercase())))
        } else {
            Err(CurrencyError)
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = CurrencyError;
    fn try_from(text: String) -> Result<Self, CurrencyError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why two amounts do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Amounts of different currencies.
    #[error("{0} and {1} are different currencies")]
    Currencies(Currency, Currency),
    /// More than an `i64` of minor units.
    #[error("the amount is out of range")]
    Overflow,
}

/// An amount in minor units (won, cents) of a currency. It may be negative where a difference is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units.
    pub amount: i64,
    /// Of what.
    pub currency: Currency,
}

impl Money {
    /// So many minor units.
    #[must_use]
    pub const fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing of a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// The sum.
    ///
    /// # Errors
    /// Different currencies, or out of range.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.same(other)?;
        self.amount.checked_add(other.amount).map(|amount| Self { amount, ..self }).ok_or(MoneyError::Overflow)
    }

    /// The difference.
    ///
    /// # Errors
    /// Different currencies, or out of range.
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.same(other)?;
        self.amount.checked_sub(other.amount).map(|amount| Self { amount, ..self }).ok_or(MoneyError::Overflow)
    }

    fn same(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency { Ok(()) } else { Err(MoneyError::Currencies(self.currency, other.currency)) }
    }
}

impl fmt::Display for Money {
    /// Minor units and currency, such as `15000 KRW`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn amounts_add_up_within_one_currency_only() {
        let (krw, usd) = (Currency::KRW, "usd".parse::<Currency>().unwrap());
        assert_eq!(Money::new(3, krw).plus(Money::new(4, krw)), Ok(Money::new(7, krw)));
        assert_eq!(Money::new(3, krw).minus(Money::new(4, krw)), Ok(Money::new(-1, krw)));
        assert_eq!(Money::new(3, krw).plus(Money::new(4, usd)), Err(MoneyError::Currencies(krw, usd)));
        assert_eq!(Money::new(i64::MAX, krw).plus(Money::new(1, krw)), Err(MoneyError::Overflow));
        assert_eq!(Money::new(i64::MIN, krw).minus(Money::new(1, krw)), Err(MoneyError::Overflow));
    }

    #[test]
    fn a_currency_is_three_letters() {
        assert_eq!("usd".parse::<Currency>().unwrap().to_string(), "USD");
        for wrong in ["", "US", "USDT", "U$D", "원"] {
            assert_eq!(wrong.parse::<Currency>(), Err(CurrencyError), "{wrong}");
        }
    }
}
