DROP VIEW failed_coupon_issue, coupon_issue;
DROP TABLE reconciliation_report, publisher_position, consumer_position, dead_letter, coupon_command, coupon_request, coupon;
DROP FUNCTION coupon_request_not_over_issued, coupon_request_final, coupon_total_covers_issues;
DROP TYPE coupon_outcome;
