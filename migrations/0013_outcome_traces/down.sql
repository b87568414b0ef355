ALTER TABLE coupon_request DROP COLUMN traceparent;
