//! The same seed and commit give the same schedule.

use faults::{fault, plan::Plan};

#[test]
fn the_same_seed_draws_the_same_round_and_another_seed_another() {
    for fault in fault::ALL {
        let drawn = |seed| serde_json::to_string(&Plan::draw(seed, &[fault], false).unwrap()).unwrap();
        assert_eq!(drawn(11), drawn(11), "{}", fault.name);
        assert_ne!(drawn(11), drawn(12), "{}", fault.name);
    }
}

#[test]
fn two_faults_merge_into_one_schedule_by_their_moments() {
    let (one, other) = (fault::find("9").unwrap(), fault::find("20").unwrap());
    let both = Plan::draw(5, &[one, other], false).unwrap();
    assert!(both.steps.is_sorted_by_key(|step| step.at_ms));
    let alone = |fault| Plan::draw(5, &[fault], false).unwrap();
    assert_eq!(both.steps.len(), alone(one).steps.len() + alone(other).steps.len());
    for step in alone(one).steps {
        assert!(both.steps.contains(&step), "{step:?}: one fault moves the other's steps");
    }
}

#[test]
fn members_ask_with_and_without_keys_by_both_gateways_and_some_give_up() {
    let plan = Plan::draw(3, &[fault::find("11").unwrap()], false).unwrap();
    let asks: Vec<_> = plan.members.iter().flat_map(|member| &member.asks).collect();
    let share = |count: usize| count * 100 / asks.len();
    let keyed = share(asks.iter().filter(|ask| ask.key.is_some()).count());
    let first = share(asks.iter().filter(|ask| ask.gateway == 0).count());
    let hasty = share(asks.iter().filter(|ask| ask.patience_ms < 1_000).count());
    assert!((40..60).contains(&keyed) && (40..60).contains(&first) && (10..30).contains(&hasty), "{keyed} {first} {hasty}");
    assert!(asks.len() > plan.members.len() * 3 / 2, "{} asks of {} members", asks.len(), plan.members.len());
}
