//! Words that a gateway uses for its states: an enum of those that are known, and a place for those that are not.

/// Makes an enum of known words, so that a table over them has to name each one; the compiler sees to it.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each word stands beside its name")]
        pub enum $name {
            $($variant,)+
            /// A word that the table does not know.
            Unknown(String),
        }

        impl $name {
            /// Every word that is known.
            pub const ALL: &'static [&'static str] = &[$($text),+];

            /// Which word it is.
            #[must_use]
            pub fn parse(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Unknown(other.to_owned()),
                }
            }

            /// The word itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(text) => text,
                }
            }
        }
    };
}

pub(crate) use words;
