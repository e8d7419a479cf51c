//! The description of a model for people.

use super::{FrontEndKind, Model, Network, Role};
use crate::nn::inspect::{Listing, clean, count_text};

/// A network's description: role, origin and [`Listing`].
pub fn network(network: &Network) -> String {
    let p = &network.provenance;
    let or_unknown = |text: &str| match text {
        "" => "unknown".to_owned(),
        _ => clean(text),
    };
    let role = match network.role {
        Role::Network => String::new(),
        role => format!(", role {role}"),
    };
    let self_test = match network.self_test {
        Some(_) => "stored",
        None => "none",
    };
    format!(
        "network {}{role}\n  from {}, Keras {}, backend {}\n  SHA-256 {}\n  self-test: {self_test}\n{}",
        clean(&network.graph.name),
        or_unknown(&p.file),
        or_unknown(p.keras_version.as_deref().unwrap_or_default()),
        or_unknown(p.backend.as_deref().unwrap_or_default()),
        or_unknown(&p.sha256),
        Listing::new(&network.graph)
    )
}

/// A model's description: labels, pre-processing, every network.
pub fn model(model: &Model) -> String {
    let info = model.info();
    let mut lines = vec![format!("model {}", clean(&info.name))];
    if !model.identity().is_empty() {
        lines.push(format!("identity {}", model.identity()));
    }
    let names = |names: &[String]| clean(&names.join(", "));
    if let Some(front_end) = info.front_end {
        let name = match front_end {
            FrontEndKind::Legacy2020 => "reference_2020",
            FrontEndKind::Utterance => "utterance",
        };
        let resampling = info.resampling.name();
        lines.push(format!("pre-processing {name}, {resampling} resampling"));
    }
    if !info.emotions.is_empty() {
        lines.push(format!("emotions {}", names(&info.emotions)));
    }
    if !info.genders.is_empty() {
        lines.push(format!("genders {}", names(&info.genders)));
    }
    if let Some(age) = &info.age {
        let valid = age.valid.map_or(String::new(), |[low, high]| {
            format!(", made for {low} to {high} years")
        });
        lines.push(format!(
            "age in years: output * {} + {}{valid}",
            age.deviation, age.mean
        ));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    for one in model.networks() {
        text.push('\n');
        text.push_str(&network(one));
    }
    let total = model.networks().iter().map(|n| n.graph.parameters() as u64);
    if model.networks().len() > 1 {
        let total = count_text(Some(total.sum()));
        text.push_str(&format!("\nall networks: {total} parameters\n"));
    }
    text
}
