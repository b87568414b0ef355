//! How the records of a slice are taken: as they are, or, after PostgreSQL refused a single one, given up.

use std::borrow::Cow;

use domain::coupon::{Body, Record, Unusable};

use crate::batch::Slice;

/// How the records of a slice are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    /// As they are.
    AsRead,
    /// PostgreSQL refused this one record: it goes to the dead letters, and its request gets a final `unprocessable`.
    GivenUp {
        /// PostgreSQL's words.
        detail: String,
    },
    /// The `unprocessable` row was refused as well: it is tried without the member, whose id is the only free text in it.
    WithoutMember {
        /// PostgreSQL's words.
        detail: String,
    },
    /// Even that row was refused: all that stays is the note of the dead letter.
    OnlyNoted {
        /// PostgreSQL's words.
        detail: String,
    },
}

impl Treatment {
    /// What the fold is given.
    #[must_use]
    pub fn records<'a>(&self, slice: &Slice<'a>) -> Cow<'a, [Record]> {
        match self {
            Self::AsRead => Cow::Borrowed(slice.records()),
            Self::GivenUp { .. } => Cow::Owned(slice.records().iter().filter_map(|record| given_up(record, true)).collect()),
            Self::WithoutMember { .. } => {
                Cow::Owned(slice.records().iter().filter_map(|record| given_up(record, false)).collect())
            }
            Self::OnlyNoted { .. } => Cow::Borrowed(&[]),
        }
    }

    /// Why PostgreSQL refused the record, if it did.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        match self {
            Self::AsRead => None,
            Self::GivenUp { detail } | Self::WithoutMember { detail } | Self::OnlyNoted { detail } => Some(detail),
        }
    }

    /// What is tried next, when PostgreSQL refuses a single record that is taken this way.
    #[must_use]
    pub fn harsher(&self, detail: String) -> Option<Self> {
        match self {
            Self::AsRead => Some(Self::GivenUp { detail }),
            Self::GivenUp { .. } => Some(Self::WithoutMember { detail }),
            Self::WithoutMember { .. } => Some(Self::OnlyNoted { detail }),
            Self::OnlyNoted { .. } => None,
        }
    }
}

fn given_up(record: &Record, with_member: bool) -> Option<Record> {
    let mut unusable = match &record.body {
        Body::Request(request) => {
            Unusable { id: request.id, coupon: request.coupon.clone(), member: Some(request.member.clone()) }
        }
        Body::Unusable(unusable) => unusable.clone(),
        // A command has no row that says `unprocessable`; the note is all.
        Body::Define(_) | Body::Change(_) | Body::Cancel(_) => return None,
    };
    unusable.member = unusable.member.filter(|_| with_member);
    Some(Record { body: Body::Unusable(unusable), ..record.clone() })
}
