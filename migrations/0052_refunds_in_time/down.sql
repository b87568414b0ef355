DROP INDEX refund_time_idx;
