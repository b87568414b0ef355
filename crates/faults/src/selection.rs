//! Which rounds are run.

use anyhow::{Context, Result, ensure};

use crate::{
    cli::{Cli, Selection},
    fault::{self, Fault},
    seed::Seed,
};

/// A round that is to be run.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its seed.
    pub seed: u64,
    /// Its faults.
    pub faults: Vec<&'static Fault>,
}

/// The short selection: seeds and faults that stay, so that what failed once fails again. Each is one of the ways in which the line can be cut.
const CI: &[(u64, &[u8])] = &[
    (1, &[1]),
    (1, &[2, 17]),
    (1, &[4]),
    (1, &[5]),
    (1, &[6, 3]),
    (1, &[7]),
    (1, &[8]),
    (1, &[9]),
    (1, &[10]),
    (1, &[11]),
    (1, &[19, 20]),
    // Last, because a topic that grew is not used again.
    (1, &[15]),
];

/// The rounds that the command line asks for.
///
/// # Errors
/// A fault that does not exist.
pub fn wanted(cli: &Cli) -> Result<Vec<Wanted>> {
    if cli.selection == Some(Selection::Ci) {
        return CI.iter().map(|(seed, numbers)| of_numbers(*seed, numbers)).collect();
    }
    ensure!(cli.rounds > 0, "--rounds 0 runs nothing; give 1 or more");
    let seeds = (0..cli.rounds).map(|round| cli.seed.wrapping_add(round));
    if cli.pairs {
        let chosen = chosen(cli)?;
        let pool: Vec<&'static Fault> = chosen.iter().flatten().copied().collect();
        ensure!(pool.len() > 1, "a pair needs two faults; name two or more, or none for all");
        return Ok(seeds.map(|seed| Wanted { seed, faults: pair(&pool, seed) }).collect());
    }
    let chosen = chosen(cli)?;
    Ok(seeds.flat_map(|seed| chosen.iter().map(move |faults| Wanted { seed, faults: faults.clone() })).collect())
}

fn of_numbers(seed: u64, numbers: &[u8]) -> Result<Wanted> {
    let faults = numbers.iter().map(|number| named(&number.to_string())).collect::<Result<_>>()?;
    Ok(Wanted { seed, faults })
}

fn named(name: &str) -> Result<&'static Fault> {
    fault::find(name.trim()).with_context(|| format!("no fault `{name}`; see --list"))
}

fn chosen(cli: &Cli) -> Result<Vec<Vec<&'static Fault>>> {
    if cli.fault.is_empty() {
        return Ok(fault::ALL.iter().map(|fault| vec![*fault]).collect());
    }
    cli.fault.iter().map(|text| text.split('+').map(named).collect()).collect()
}

/// Two different faults.
fn pair(pool: &[&'static Fault], seed: u64) -> Vec<&'static Fault> {
    let mut draw = Seed::new(seed).fork("pair");
    let first = draw.index(pool.len());
    let second = (first + 1 + draw.index(pool.len().saturating_sub(1))) % pool.len().max(1);
    let mut faults: Vec<&'static Fault> = [first, second].into_iter().filter_map(|index| pool.get(index).copied()).collect();
    faults.sort_by_key(|fault| fault.number);
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    fn numbers(arguments: &[&str]) -> Vec<(u64, Vec<u8>)> {
        let cli = Cli::parse_from(["trueup-faults"].iter().chain(arguments));
        let numbers = |wanted: Wanted| (wanted.seed, wanted.faults.iter().map(|fault| fault.number).collect());
        wanted(&cli).unwrap().into_iter().map(numbers).collect()
    }

    #[test]
    fn seeds_and_faults_make_the_rounds() {
        assert_eq!(
            numbers(&["--seed", "5", "--rounds", "2", "--fault", "7,9+11"]),
            [(5, vec![7]), (5, vec![9, 11]), (6, vec![7]), (6, vec![9, 11])]
        );
        assert_eq!(numbers(&[]).len(), fault::ALL.len());
        assert_eq!(numbers(&["--selection", "ci"]).len(), CI.len());
    }

    #[test]
    fn pairs_are_two_different_faults_by_seed() {
        let pairs = numbers(&["--pairs", "--rounds", "200"]);
        assert!(pairs.iter().all(|(_, faults)| matches!(faults.as_slice(), [one, other] if one != other)));
        assert_eq!(pairs, numbers(&["--pairs", "--rounds", "200"]));
        let seen: std::collections::BTreeSet<u8> = pairs.into_iter().flat_map(|(_, faults)| faults).collect();
        assert_eq!(seen.len(), fault::ALL.len(), "every fault is paired by and by");
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let cli = Cli::parse_from(["trueup-faults", "--fault", "99"]);
        assert!(wanted(&cli).unwrap_err().to_string().contains("`99`"));
    }
}
