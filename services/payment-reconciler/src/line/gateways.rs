//! Which gateways have payments that wait, asked without reading those payments.

/// A statement that may speak of `fresh`, the gateways of payments that were never asked about, and `due`, those of payments that have a next
/// check. One look into an index a gateway, however many payments there are; the last row of each is NULL.
macro_rules! with_gateways {
    ($statement:literal) => {
        concat!(
            "WITH RECURSIVE fresh AS ( \
        (SELECT provider FROM payment WHERE next_check_at IS NULL AND state = 'PENDING' ORDER BY provider LIMIT 1) \
        UNION ALL SELECT (SELECT p.provider FROM payment p WHERE p.next_check_at IS NULL AND p.state = 'PENDING' \
            AND p.provider > fresh.provider ORDER BY p.provider LIMIT 1) FROM fresh WHERE fresh.provider IS NOT NULL), \
    due AS ( \
        (SELECT provider FROM payment WHERE next_check_at IS NOT NULL ORDER BY provider LIMIT 1) \
        UNION ALL SELECT (SELECT p.provider FROM payment p WHERE p.next_check_at IS NOT NULL \
            AND p.provider > due.provider ORDER BY p.provider LIMIT 1) FROM due WHERE due.provider IS NOT NULL)",
            " ",
            $statement
        )
    };
}

pub(crate) use with_gateways;
