use toedit::edit::{Action, EditConfig, Sampler, Strategy};
use toedit::random::Stream;
use toedit::score::Statistics;

#[test]
fn the_defaults_are_those_of_the_method() {
    let config = EditConfig::default();
    assert_eq!(config, EditConfig::new(Strategy::UpRevise));
    assert_eq!((config.sampler(), config.temperature()), (&Sampler::TopK(8), 1.5));
    assert_eq!((config.seed(), config.generation(), config.exclude_original()), (0, 0, false));
    assert_eq!(EditConfig::new(Strategy::LowDropUpRevise).temperature(), 1.0);
    assert_eq!(EditConfig::new(Strategy::Filtering).temperature(), 1.5);
    let certain = Statistics { target: 9.0, max: 0.0, rest: 1.0 };
    assert_eq!(config.decide(&certain), Action::Resample);
}

#[test]
fn settings_out_of_range_are_refused() {
    for sampler in [Sampler::TopK(0), Sampler::TopP(0.0), Sampler::TopP(1.1), Sampler::TopP(f64::NAN)] {
        assert!(EditConfig::default().with_sampler(sampler).is_err(), "{sampler:?}");
    }
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = EditConfig::default().with_temperature(temperature).unwrap_err();
        assert!(error.to_string().ends_with("expected a finite number above 0"));
    }
    assert!(EditConfig::default().with_generation(Stream::MAX_GENERATION).is_ok());
    assert!(EditConfig::default().with_generation(Stream::MAX_GENERATION + 1).is_err());
    assert!(EditConfig::default().with_sampler(Sampler::TopP(1.0)).is_ok());
}

#[test]
fn sampler_names_are_read_and_written() {
    for name in ["top-k", "top-p", "full", "rejection"] {
        assert_eq!(name.parse::<Sampler>().unwrap().to_string(), name);
    }
    assert_eq!("top-k".parse::<Sampler>().unwrap(), Sampler::default());
    let error = "nucleus".parse::<Sampler>().unwrap_err();
    assert_eq!(error.to_string(), "sampler `nucleus`: expected top-k, top-p, full or rejection");
}

#[test]
fn a_sampler_that_changes_nothing_is_said_up_front() {
    let warning = |rules: &[&str], sampler| {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        EditConfig::from_rules(rules).with_sampler(sampler).unwrap().warning()
    };
    let up_revise = ["p>=0.99:resample"];
    assert_eq!(
        warning(&up_revise, Sampler::TopP(0.99)).unwrap(),
        "top-p 0.99 keeps only the original token where p >= 0.99, so resampling changes nothing; choose a mass above 0.99 or another sampler"
    );
    assert!(warning(&up_revise, Sampler::TopK(1)).unwrap().starts_with("top-k 1 keeps only"));
    assert_eq!(warning(&up_revise, Sampler::TopP(0.991)), None);
    assert_eq!(warning(&up_revise, Sampler::TopP(1.0)), None);
    assert_eq!(warning(&up_revise, Sampler::TopK(2)), None);
    assert_eq!(warning(&up_revise, Sampler::Full), None);
    assert_eq!(warning(&["p>=0.99:resample", "p<0.1:resample"], Sampler::TopP(0.9)), None);
    assert_eq!(
        warning(&["0.4<=p<0.6:resample"], Sampler::TopP(0.3)),
        None,
        "the original may not be the largest"
    );
    assert_eq!(warning(&["p<0.001:drop"], Sampler::TopP(0.9)), None);
}

#[test]
fn settings_serialize_for_a_manifest() {
    let config =
        EditConfig::new(Strategy::LowDropUpRevise).with_sampler(Sampler::TopP(0.995)).unwrap().with_seed(7);
    assert_eq!(
        serde_json::to_string(&config).unwrap(),
        r#"{"rules":["p>=0.99:resample","p<0.001:drop"],"sampler":{"name":"top-p","value":0.995},"temperature":1.0,"exclude_original":false,"seed":7,"generation":0}"#
    );
    assert_eq!(serde_json::to_string(&Sampler::Full).unwrap(), r#"{"name":"full"}"#);
}
