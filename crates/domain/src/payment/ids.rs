//! Identifiers of the payment line. All are opaque texts that other systems choose.

use crate::ids::{IdError, text_id};

text_id!(
    /// An order's id, as the order service chose it: 1 to 64 printable characters without spaces.
    OrderId,
    |_| Ok(())
);
text_id!(
    /// A payment's id, ours: one for each attempt to pay an order.
    PaymentId,
    |_| Ok(())
);
text_id!(
    /// A refund's id, ours; with the number of the attempt it is the idempotency key at the payment gateway.
    RefundId,
    |_| Ok(())
);
text_id!(
    /// A product's id.
    ProductId,
    |_| Ok(())
);
text_id!(
    /// A merchant account at a payment gateway, by the name that the settings give it, such as `toss`.
    ProviderName,
    |text| if text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_') {
        Ok(())
    } else {
        Err(IdError::NotPrintable)
    }
);
text_id!(
    /// What the payment gateway knows a payment by: Toss' order id, Stripe's payment intent. Unique per provider.
    PgReference,
    |_| Ok(())
);
