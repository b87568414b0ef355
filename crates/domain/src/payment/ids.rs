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

/// The name space of refund ids. It must never change: keys made from them are at the payment gateways.
const REFUND_NAMESPACE: uuid::Uuid = uuid::Uuid::from_u128(0x2d0c_94f1_5b7e_5e0a_a1f3_6c84_19be_d7a2);

impl RefundId {
    /// The id of a payment's refund. It follows from the payment, so that a database restored from a backup uses the same
    /// idempotency keys again and gives nothing back twice.
    #[must_use]
    pub fn of_payment(payment: &PaymentId) -> Self {
        let id = uuid::Uuid::new_v5(&REFUND_NAMESPACE, payment.as_str().as_bytes());
        Self(format!("rf-{}", id.simple()).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_refunds_id_follows_from_its_payment() {
        let id = RefundId::of_payment(&PaymentId::new("payment-1").unwrap());
        // Golden: keys of this kind are at the gateways, so the derivation may never change.
        assert_eq!(RefundId::new(id.as_str()), Ok(id.clone()));
        assert_ne!(id, RefundId::of_payment(&PaymentId::new("payment-2").unwrap()));
    }
}
