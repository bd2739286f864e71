//! Statements of CSAF 2.0, <https://docs.oasis-open.org/csaf/csaf/v2.0/>.
//!
//! A product counts where the document itself says which package it is, by the `purl` of its
//! `product_identification_helper`: a component of somebody's product is no package of Debian's.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::purl::Purl;
use super::vex::{Statement, Statements, Status};
use super::{parse, unsound};
use crate::error::Result;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    product_tree: Tree,
    #[serde(default)]
    vulnerabilities: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct Tree {
    #[serde(default)]
    branches: Vec<Branch>,
    #[serde(default)]
    full_product_names: Vec<Product>,
    #[serde(default)]
    relationships: Vec<Relationship>,
}

#[derive(Deserialize)]
struct Branch {
    #[serde(default)]
    branches: Vec<Branch>,
    #[serde(default)]
    product: Option<Product>,
}

#[derive(Deserialize)]
struct Relationship {
    full_product_name: Product,
}

#[derive(Deserialize)]
struct Product {
    product_id: String,
    #[serde(default)]
    product_identification_helper: Option<Helper>,
}

#[derive(Deserialize)]
struct Helper {
    #[serde(default)]
    purl: Option<String>,
}

#[derive(Deserialize)]
struct Vulnerability {
    #[serde(default)]
    cve: Option<String>,
    #[serde(default)]
    ids: Vec<Id>,
    #[serde(default)]
    product_status: ProductStatus,
    #[serde(default)]
    flags: Vec<Flag>,
}

#[derive(Deserialize)]
struct Id {
    text: String,
}

#[derive(Deserialize)]
struct Flag {
    label: String,
}

#[derive(Default, Deserialize)]
struct ProductStatus {
    #[serde(default)]
    known_not_affected: Vec<String>,
    #[serde(default)]
    fixed: Vec<String>,
    #[serde(default)]
    first_fixed: Vec<String>,
    #[serde(default)]
    known_affected: Vec<String>,
    #[serde(default)]
    under_investigation: Vec<String>,
}

/// Adds the statements of a document.
pub(super) fn read(name: &str, bytes: &[u8], statements: &mut Statements) -> Result<()> {
    let document: Document = parse(name, bytes)?;
    let mut purls = BTreeMap::new();
    let Tree {
        branches,
        full_product_names,
        relationships,
    } = document.product_tree;
    for product in full_product_names {
        note(product, &mut purls);
    }
    for relationship in relationships {
        note(relationship.full_product_name, &mut purls);
    }
    // JSON is read no deeper than 128 levels.
    let mut pending = branches;
    while let Some(branch) = pending.pop() {
        pending.extend(branch.branches);
        if let Some(product) = branch.product {
            note(product, &mut purls);
        }
    }
    for (number, value) in (1..).zip(document.vulnerabilities) {
        let vulnerability: Vulnerability = serde_json::from_value(value)
            .map_err(|e| unsound(name, &format!("vulnerability {number}: {e}")))?;
        let ids = vulnerability.ids.into_iter().map(|id| id.text);
        let ids: BTreeSet<String> = ids.chain(vulnerability.cve).collect();
        let flags: Vec<String> = vulnerability.flags.into_iter().map(|f| f.label).collect();
        let status = vulnerability.product_status;
        for (status, products) in [
            (Status::UnderInvestigation, status.under_investigation),
            (Status::Fixed, [status.fixed, status.first_fixed].concat()),
            (Status::NotAffected, status.known_not_affected),
            // The last one decides, and what is affected is.
            (Status::Affected, status.known_affected),
        ] {
            let products: Vec<Purl> = products
                .iter()
                .filter_map(|id| purls.get(id).cloned())
                .collect();
            if products.is_empty() {
                continue;
            }
            statements.0.push(Statement {
                ids: ids.clone(),
                products,
                status,
                why: match status {
                    Status::NotAffected => flags.join(", "),
                    _ => String::new(),
                },
                file: name.to_owned(),
            });
        }
    }
    Ok(())
}

fn note(product: Product, purls: &mut BTreeMap<String, Purl>) {
    let purl = product
        .product_identification_helper
        .and_then(|helper| helper.purl);
    if let Some(purl) = purl.and_then(|purl| Purl::parse(&purl)) {
        purls.insert(product.product_id, purl);
    }
}
