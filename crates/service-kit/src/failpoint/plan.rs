//! What happens at a step, and how often, as text: `[SKIP+][TIMES*][PERCENT%]ACTION`.

use std::{fmt, str::FromStr, time::Duration};

/// What happens when a step is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Off,
    /// The task waits until the step is given another plan, at most [`Plan::PAUSE_MAX`].
    Pause,
    /// The task waits for so long.
    Sleep(Duration),
    /// The process ends at once, as by kill -9.
    Kill,
    /// What was done is done, and is reported as failed.
    Fail,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Pause => f.write_str("pause"),
            Self::Sleep(time) => write!(f, "sleep({})", time.as_millis()),
            Self::Kill => f.write_str("kill"),
            Self::Fail => f.write_str("fail"),
        }
    }
}

/// An action with its bounds: `2+1*kill` kills at the third time, `10%fail` fails every tenth time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The action.
    pub action: Action,
    /// How often the step is passed first.
    pub skip: u64,
    /// How often it happens at most; none: always.
    pub times: Option<u64>,
    /// Of so many out of a hundred, evenly spread, so that the same requests meet the same faults.
    pub percent: u64,
    /// How often the step was considered after `skip`.
    considered: u64,
}

impl Plan {
    /// Nothing ever happens.
    pub const OFF: Self = Self { action: Action::Off, skip: 0, times: None, percent: 100, considered: 0 };

    /// How long a pause lasts at most, so that a drill that died leaves no task standing for ever.
    pub const PAUSE_MAX: Duration = Duration::from_secs(600);

    /// How long a sleep may be.
    pub const SLEEP_MAX: Duration = Self::PAUSE_MAX;

    /// What happens now that the step is reached once more.
    pub fn take(&mut self) -> Action {
        if self.action == Action::Off || self.times == Some(0) {
            return Action::Off;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return Action::Off;
        }
        let share = |considered: u64| considered.saturating_mul(self.percent) / 100;
        let before = share(self.considered);
        self.considered = self.considered.saturating_add(1);
        if share(self.considered) == before {
            return Action::Off;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        self.action
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.skip > 0 {
            write!(f, "{}+", self.skip)?;
        }
        if let Some(times) = self.times {
            write!(f, "{times}*")?;
        }
        if self.percent != 100 {
            write!(f, "{}%", self.percent)?;
        }
        self.action.fmt(f)
    }
}

/// A text that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no plan; write [SKIP+][TIMES*][PERCENT%]ACTION with off, pause, sleep(MS) up to 600000, kill or fail")]
pub struct BadPlan(String);

impl FromStr for Plan {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Self, BadPlan> {
        parse(text.trim()).ok_or_else(|| BadPlan(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Plan> {
    let mut plan = Plan::OFF;
    let mut rest = text;
    if let Some((skip, behind)) = rest.split_once('+') {
        (plan.skip, rest) = (skip.parse().ok()?, behind);
    }
    if let Some((times, behind)) = rest.split_once('*') {
        (plan.times, rest) = (Some(times.parse().ok()?), behind);
    }
    if let Some((percent, behind)) = rest.split_once('%') {
        (plan.percent, rest) = (percent.parse().ok().filter(|percent| (1..=100).contains(percent))?, behind);
    }
    plan.action = match rest {
        "off" => Action::Off,
        "pause" => Action::Pause,
        "kill" => Action::Kill,
        "fail" => Action::Fail,
        sleep => {
            let ms = sleep.strip_prefix("sleep(")?.strip_suffix(')')?.parse().ok()?;
            Action::Sleep(Some(Duration::from_millis(ms)).filter(|time| *time <= Plan::SLEEP_MAX)?)
        }
    };
    Some(plan)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn happens(plan: &str, reached: usize) -> Vec<bool> {
        let mut plan: Plan = plan.parse().unwrap();
        (0..reached).map(|_| plan.take() != Action::Off).collect()
    }

    #[test]
    fn a_plan_happens_when_it_says() {
        assert_eq!(happens("off", 3), [false; 3]);
        assert_eq!(happens("pause", 3), [true; 3]);
        assert_eq!(happens("1*kill", 3), [true, false, false]);
        assert_eq!(happens("2+1*kill", 4), [false, false, true, false]);
        assert_eq!(happens("50%fail", 6), [false, true, false, true, false, true]);
        assert_eq!(happens("1+2*50%sleep(5)", 7), [false, false, true, false, true, false, false]);
        assert_eq!(happens("7%fail", 1_000).iter().filter(|happened| **happened).count(), 70);
    }

    #[test]
    fn a_plan_reads_as_it_is_written() {
        for text in ["off", "pause", "kill", "fail", "sleep(250)", "3+pause", "1*kill", "25%fail", "2+4*10%sleep(1)"] {
            assert_eq!(text.parse::<Plan>().unwrap().to_string(), text);
        }
        for text in
            ["", "panic", "sleep", "sleep()", "sleep(-1)", "sleep(600001)", "0%fail", "101%fail", "x*kill", "*kill", "+kill"]
        {
            assert!(text.parse::<Plan>().is_err(), "{text}");
        }
    }
}
