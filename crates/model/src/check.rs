//! Exploring a model, and telling what was found.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::{Debug, Write},
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

use stateright::{Checker, HasDiscoveries, Model, Path};

/// What an exploration came to.
#[derive(Debug, Clone)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
}

/// Explores every state and holds every property. What is only hoped for once has to be found as well.
///
/// # Panics
/// With a trace, if a property does not hold.
pub fn holds<M>(name: &str, model: M) -> Explored
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + Send + Sync + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    holds_but(name, model, None)
}

/// [`holds`], without holding one property.
///
/// # Panics
/// See [`holds`].
pub fn holds_but<M>(name: &str, model: M, but: Option<&'static str>) -> Explored
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + Send + Sync + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let failures = model.properties().into_iter().filter(|property| property.expectation.discovery_is_failure());
    let failures: BTreeSet<&'static str> = failures.map(|property| property.name).filter(|name| Some(*name) != but).collect();
    let hopes: Vec<&'static str> =
        model.properties().into_iter().filter(|property| !property.expectation.discovery_is_failure()).map(|p| p.name).collect();
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyOf(failures.clone())).spawn_bfs().join();
    for property in failures {
        if let Some(path) = checker.discovery(property) {
            let last = format!("{:?}", path.last_state());
            panic!("{name}: {property} does not hold: {}, which comes to {last}", trace(path));
        }
    }
    for hope in hopes {
        assert!(checker.discovery(hope).is_some(), "{name}: never once {hope}");
    }
    let explored = Explored { states: checker.unique_state_count(), depth: checker.max_depth() };
    println!("{name}: {} states, depth {}, {:.1} s", explored.states, explored.depth, begun.elapsed().as_secs_f64());
    explored
}

/// Looks for the shortest way to break `property` and tells it.
///
/// # Panics
/// If the property holds.
pub fn refuted<M>(name: &str, model: M, property: &'static str) -> String
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + Send + Sync + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let wanted = HasDiscoveries::AnyOf([property].into());
    let mut states = 0;
    for depth in 1.. {
        // The checker takes states in blocks, so that only a bound makes the first way found the shortest.
        let checker = model.clone().checker().finish_when(wanted.clone()).target_max_depth(depth).spawn_bfs().join();
        if let Some(path) = checker.discovery(property) {
            let told = trace(path);
            println!("{name} breaks `{property}`: {told}");
            return told;
        }
        assert!(checker.unique_state_count() > states, "{name}: {property} holds in all of {states} states");
        states = checker.unique_state_count();
    }
    String::new()
}

fn trace<S, A: Debug>(path: Path<S, A>) -> String
where
    S: Debug + Hash + PartialEq,
{
    let mut told = String::new();
    for action in path.into_actions() {
        let arrow = if told.is_empty() { "" } else { " → " };
        let _ = write!(told, "{arrow}{action:?}");
    }
    told
}

/// Whether some order of events comes back to a state that it has been in. Answers with the number of states looked at.
///
/// # Panics
/// If it does. Then a line that is left alone might never come to rest.
pub fn never_circles<M>(model: &M) -> usize
where
    M: Model,
    M::State: Hash + Clone + Debug,
    M::Action: Clone + Debug,
{
    const OPEN: bool = false;
    const DONE: bool = true;
    let mut seen: HashMap<u64, bool> = HashMap::new();
    let mut way: Vec<(u64, M::State, Vec<M::Action>)> = Vec::new();
    let enter = |state: M::State, seen: &mut HashMap<u64, bool>, way: &mut Vec<_>| {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let print = hasher.finish();
        match seen.get(&print) {
            None => {
                let mut actions = Vec::new();
                model.actions(&state, &mut actions);
                seen.insert(print, OPEN);
                way.push((print, state, actions));
            }
            Some(&OPEN) => panic!("the events go round in a circle through {state:?}"),
            Some(&DONE) => {}
        }
    };
    for state in model.init_states() {
        enter(state, &mut seen, &mut way);
        while let Some((print, state, actions)) = way.last_mut() {
            match actions.pop() {
                Some(action) => {
                    if let Some(next) = model.next_state(state, action) {
                        enter(next, &mut seen, &mut way);
                    }
                }
                None => {
                    seen.insert(*print, DONE);
                    way.pop();
                }
            }
        }
    }
    seen.len()
}
