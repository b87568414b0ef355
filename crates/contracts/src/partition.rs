//! Which partition a key belongs to, by the hash of Java's client.

/// The seed that Kafka's Java client uses.
const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// `murmur2` as in `org.apache.kafka.common.utils.Utils`, so that a coupon lives where a Java producer's default
/// partitioner sends its key.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> u32 {
    // Java's int length wraps at 2^31; keys are far shorter, and the fallback keeps the function total.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, tail) = bytes.as_chunks::<4>();
    let mut h = SEED ^ length;
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (byte, shift) in tail.iter().zip([0_u32, 8, 16]) {
            h ^= u32::from(*byte) << shift;
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of a key among `partitions`: `(murmur2(key) & 0x7fffffff) % partitions`. With no partitions, 0.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let Ok(count @ 1..) = u32::try_from(partitions) else { return 0 };
    i32::try_from((murmur2(key) & 0x7fff_ffff) % count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    /// The vectors of `UtilsTest.testMurmur2` in Apache Kafka.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, expected) in cases {
            assert_eq!(murmur2(text.as_bytes()) as i32, expected, "{text}");
        }
    }

    #[test]
    fn a_partition_is_always_one_of_those_there_are() {
        for partitions in [1, 2, 12, 1000] {
            for key in ["", "a", "coupon-2024", "회원"] {
                assert!((0..partitions).contains(&partition_of(key.as_bytes(), partitions)));
            }
        }
        assert_eq!(partition_of(b"a", 0), 0);
        assert_eq!(partition_of(b"a", -1), 0);
    }
}
