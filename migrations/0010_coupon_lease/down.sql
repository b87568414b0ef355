DROP TABLE coupon_lease;
