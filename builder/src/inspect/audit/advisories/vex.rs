//! Statements of `OpenVEX`, <https://github.com/openvex/spec>, and how all statements are asked.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::purl::{Product, Purl};
use super::{parse, unsound};
use crate::error::Result;
use crate::inspect::audit::report::Settled;

/// What somebody says about a vulnerability in packages.
#[derive(Clone, Debug)]
pub(in crate::inspect::audit) struct Statement {
    /// Its ids.
    pub(super) ids: BTreeSet<String>,
    pub(super) products: Vec<Purl>,
    /// `not_affected`, `fixed`, `affected`, `under_investigation`.
    pub(super) status: Status,
    /// Why, in a line.
    pub(super) why: String,
    /// The file that says so.
    pub(super) file: String,
}

impl Statement {
    /// What it says about one id in a package.
    pub(in crate::inspect::audit) fn settled(&self, id: &str, package: &str) -> Settled {
        Settled {
            id: id.to_owned(),
            package: package.to_owned(),
            status: self.status.name(),
            why: self.why.clone(),
            file: self.file.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    NotAffected,
    Affected,
    Fixed,
    UnderInvestigation,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::NotAffected => "not_affected",
            Self::Affected => "affected",
            Self::Fixed => "fixed",
            Self::UnderInvestigation => "under_investigation",
        }
    }
}

/// Statements in the order in which they were made.
#[derive(Debug, Default)]
pub(in crate::inspect::audit) struct Statements(pub(super) Vec<Statement>);

impl Statements {
    /// The last statement about one of these ids in a package, if it says that there is nothing to
    /// do.
    pub(in crate::inspect::audit) fn settles(
        &self,
        ids: &[&str],
        product: &Product<'_>,
    ) -> Option<&Statement> {
        let about = |statement: &&Statement| {
            ids.iter().any(|id| statement.ids.contains(*id))
                && statement.products.iter().any(|purl| purl.names(product))
        };
        let last = self.0.iter().rev().find(about)?;
        matches!(last.status, Status::NotAffected | Status::Fixed).then_some(last)
    }
}

#[derive(Deserialize)]
#[serde(expecting = "a document with statements")]
struct Document {
    statements: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(expecting = "a statement")]
struct Said {
    vulnerability: Vulnerability,
    #[serde(default)]
    products: Option<Vec<Named>>,
    status: Status,
    #[serde(default)]
    justification: Option<String>,
    #[serde(default)]
    impact_statement: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vulnerability {
    /// As version 0.0.1 has it.
    Id(String),
    Named {
        name: String,
        #[serde(default)]
        aliases: Option<Vec<String>>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Id(String),
    Component(Component),
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "@id", default)]
    id: Option<String>,
    #[serde(default)]
    identifiers: Option<Identifiers>,
    /// With these, the product is what has them, and nothing that is installed.
    #[serde(default)]
    subcomponents: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct Identifiers {
    #[serde(default)]
    purl: Option<String>,
}

/// Adds the statements of a document.
pub(super) fn read(name: &str, bytes: &[u8], statements: &mut Statements) -> Result<()> {
    let document: Document = parse(name, bytes)?;
    for (number, value) in (1..).zip(document.statements) {
        let said: Said = serde_json::from_value(value)
            .map_err(|e| unsound(name, &format!("statement {number}: {e}")))?;
        let ids = match said.vulnerability {
            Vulnerability::Id(id) => BTreeSet::from([id]),
            Vulnerability::Named { name, aliases } => {
                let mut ids: BTreeSet<_> = aliases.unwrap_or_default().into_iter().collect();
                ids.insert(name);
                ids
            }
        };
        if said.status == Status::NotAffected
            && said.justification.is_none()
            && said.impact_statement.is_none()
        {
            let why = "`not_affected` needs a `justification` or an `impact_statement`";
            return Err(unsound(name, &format!("statement {number}: {why}")));
        }
        let products = said.products.unwrap_or_default().into_iter();
        let why = said.justification.into_iter().chain(said.impact_statement);
        statements.0.push(Statement {
            ids,
            products: products.filter_map(purl_of).collect(),
            status: said.status,
            why: why.collect::<Vec<_>>().join(": "),
            file: name.to_owned(),
        });
    }
    Ok(())
}

fn purl_of(product: Named) -> Option<Purl> {
    match product {
        Named::Id(id) => Purl::parse(&id),
        Named::Component(component) => {
            if component.subcomponents.is_some_and(|list| !list.is_empty()) {
                return None;
            }
            let purl = component.identifiers.and_then(|found| found.purl);
            Purl::parse(&purl.or(component.id)?)
        }
    }
}
