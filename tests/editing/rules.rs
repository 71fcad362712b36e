use proptest::prelude::*;
use toedit::edit::rules::decide;
use toedit::edit::{Action, Condition, Rule, Strategy as Named};
use toedit::score::Statistics;

/// A row whose target has probability p, to f32.
fn with_probability(p: f64) -> Statistics {
    Statistics { target: p.ln() as f32, max: (1.0 - p).ln() as f32, rest: 1.0 }
}

fn condition() -> impl Strategy<Value = Condition> {
    let bound = -2f64..2.0;
    prop_oneof![
        bound.clone().prop_map(Condition::AtLeast),
        bound.clone().prop_map(Condition::Above),
        bound.clone().prop_map(Condition::AtMost),
        bound.clone().prop_map(Condition::Below),
        (bound, 1e-9f64..1.0).prop_map(|(low, width)| Condition::Band { low, high: low + width }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Resample), Just(Action::Drop), Just(Action::Keep)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn display_and_parse_are_inverse(condition in condition(), action in action()) {
        let rule = Rule::new(condition, action).unwrap();
        prop_assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
        prop_assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{rule}\""));
    }

    #[test]
    fn any_string_is_read_or_refused(s in "\\PC{0,12}") {
        if let Ok(rule) = s.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
        }
    }

    #[test]
    fn conditions_mean_what_they_say(condition in condition(), p in 0.001f64..0.999) {
        let p = with_probability(p);
        let expected = match condition {
            Condition::AtLeast(t) => p.probability() >= t,
            Condition::Above(t) => p.probability() > t,
            Condition::AtMost(t) => p.probability() <= t,
            Condition::Below(t) => p.probability() < t,
            Condition::Band { low, high } => (low..high).contains(&p.probability()),
        };
        prop_assert_eq!(condition.holds(&p), expected);
    }
}

#[test]
fn the_documented_forms_are_read() {
    let read = |s: &str| s.parse::<Rule>().map(|rule| (rule.condition(), rule.action())).unwrap();
    assert_eq!(read("p<=0.1:resample"), (Condition::AtMost(0.1), Action::Resample));
    assert_eq!(read("0.2<=p<0.3:keep"), (Condition::Band { low: 0.2, high: 0.3 }, Action::Keep));
    assert_eq!(read(" p >= 99e-2 : drop "), (Condition::AtLeast(0.99), Action::Drop));
    assert_eq!(read("p>1.5:resample"), (Condition::Above(1.5), Action::Resample));
    assert_eq!(read("p<-1:drop"), (Condition::Below(-1.0), Action::Drop));
}

#[test]
fn malformed_rules_are_refused_by_name() {
    for (rule, word) in [
        ("p>=0.99", "expected a condition and an action"),
        ("p>=0.99:replace", "expected resample, drop or keep"),
        ("p>=:drop", "expected one such as"),
        ("p=0.5:drop", "expected one such as"),
        ("0.2<p<0.3:drop", "expected one such as"),
        ("0.2<=p<=0.3:drop", "expected one such as"),
        ("p>=nan:drop", "expected finite bounds"),
        ("p<inf:drop", "expected finite bounds"),
        ("0.3<=p<0.3:drop", "expected low < high"),
        ("", "expected a condition and an action"),
    ] {
        let error = rule.parse::<Rule>().unwrap_err();
        assert!(error.to_string().contains(word), "{rule}: {error}");
        assert_eq!(error.exit_status(), 2);
    }
    assert!(Rule::new(Condition::AtLeast(f64::INFINITY), Action::Drop).is_err());
}

#[test]
fn the_first_rule_that_holds_decides() {
    let rules: Vec<Rule> =
        ["p>=0.9:keep", "p>=0.5:resample", "p<0.1:drop"].iter().map(|rule| rule.parse().unwrap()).collect();
    let decide = |p| decide(&rules, &with_probability(p));
    assert_eq!(
        [decide(0.95), decide(0.6), decide(0.3), decide(0.05)],
        [Action::Keep, Action::Resample, Action::Keep, Action::Drop]
    );
}

#[test]
fn strategies_are_those_of_the_method() {
    let written =
        |strategy: Named| strategy.rules().iter().map(Rule::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(written(Named::UpRevise), "p>=0.99:resample");
    assert_eq!(written(Named::LowDropUpRevise), "p>=0.99:resample p<0.001:drop");
    assert_eq!(written(Named::Filtering), "p<0.001:drop");
    assert_eq!(Named::ALL.map(|strategy| strategy.temperature()), [Some(1.5), Some(1.0), None]);
    for strategy in Named::ALL {
        assert_eq!(strategy.to_string().parse::<Named>().unwrap(), strategy);
    }
    assert!("uprevise".parse::<Named>().is_err());
}
