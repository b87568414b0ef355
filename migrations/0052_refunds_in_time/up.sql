-- Lists of refunds begin with the oldest, a page at a time, however many were ever made.
CREATE INDEX refund_time_idx ON refund (created_at, refund_id);
