//! The frame that every page has: head, ways to other places, landmarks.

use std::sync::OnceLock;

use base64ct::{Base64, Encoding};
use store::Sha256;

use super::html::Html;

const STYLE: &str = include_str!("style.css");

/// The program that writes the pages.
pub(super) const PROGRAM: &str = concat!("imgbuild ", env!("CARGO_PKG_VERSION"));

/// Counted up with each change of what a page of two images says: those that were written before are
/// written again.
const EDITION: u32 = 1;

/// What stays the same for as long as a page of the same facts is the same bytes.
pub(super) fn edition() -> String {
    format!("{PROGRAM} {EDITION} {}", Sha256::of(STYLE.as_bytes()).hex())
}

/// What a browser may load: the one stylesheet in the page, no script, nothing from elsewhere.
pub(super) fn security_policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let digest = Base64::encode_string(Sha256::of(STYLE.as_bytes()).bytes());
        format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        )
    })
}

/// Where a page is: links of it lead from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Beside the first page.
    Top,
    /// In a folder.
    Folder,
}

impl Place {
    /// What links begin with.
    pub(super) fn root(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Folder => "../",
        }
    }
}

/// A whole page. `sections` are the headings that the page has, by their anchors.
pub(super) fn page(
    place: Place,
    title: &str,
    sections: &[(&'static str, String)],
    footer: impl FnOnce(&mut Html),
    main: &Html,
) -> String {
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.open(
        "meta",
        &[
            ("http-equiv", "Content-Security-Policy"),
            ("content", security_policy()),
        ],
    );
    html.raw(
        "\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n",
    );
    html.tag("title", title);
    html.raw("\n<style>");
    html.raw(STYLE);
    html.raw(
        "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the content</a>\n\
         <header>\n",
    );
    html.element("nav", &[("aria-label", "Pages")], |html| {
        html.raw("<ul>");
        html.element("li", &[], |html| {
            html.link(
                &format!("{}index.html", place.root()),
                "What is released where",
            );
        });
        html.raw("</ul>");
    });
    html.raw("\n</header>\n<main id=\"main\" tabindex=\"-1\">\n");
    html.tag("h1", title);
    if sections.len() > 1 {
        html.element(
            "nav",
            &[("class", "on"), ("aria-label", "On this page")],
            |html| {
                html.raw("<ul>");
                for (anchor, heading) in sections {
                    html.element("li", &[], |html| html.link(&format!("#{anchor}"), heading));
                }
                html.raw("</ul>");
            },
        );
    }
    html.add(main);
    html.raw("</main>\n<footer>\n");
    footer(&mut html);
    html.raw("</footer>\n</body>\n</html>\n");
    html.into_string()
}

/// The heading of a section.
pub(super) fn heading(html: &mut Html, anchor: &str, text: &str) {
    html.element("h2", &[("id", anchor)], |html| html.text(text));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The colours of a block of the stylesheet that begins with these words.
    fn colours(begin: &str) -> BTreeMap<&'static str, [u8; 3]> {
        let (_, block) = STYLE.split_once(begin).unwrap();
        let (block, _) = block.split_once('}').unwrap();
        let pairs = block.split([';', '{']).filter_map(|pair| {
            let (name, value) = pair.trim().strip_prefix("--")?.split_once(":#")?;
            let long: String = match value.len() {
                3 => value.chars().flat_map(|digit| [digit, digit]).collect(),
                _ => value.to_owned(),
            };
            Some((name, common::hex::decode(&long)?.try_into().ok()?))
        });
        pairs.collect()
    }

    /// WCAG 2.2, relative luminance.
    fn luminance(colour: [u8; 3]) -> f64 {
        let [red, green, blue] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn text_stands_out_from_its_ground() {
        for begin in [
            ":root{color-scheme",
            "(prefers-color-scheme:dark){",
            "@media print{",
        ] {
            let colours = colours(begin);
            for (text, grounds) in [
                ("ink", &["ground", "head", "m0", "m1", "m2", "m3"][..]),
                ("soft", &["ground"]),
                ("link", &["ground"]),
                ("bad", &["ground", "badground"]),
                ("warn", &["ground", "warnground"]),
                ("plain", &["plainground"]),
                ("add", &["ground"]),
            ] {
                for ground in grounds {
                    let [one, other] = [text, *ground].map(|name| luminance(colours[name]) + 0.05);
                    let contrast = one.max(other) / one.min(other);
                    assert!(contrast >= 4.5, "{begin} {text} on {ground}: {contrast}");
                }
            }
        }
    }

    #[test]
    fn a_page_loads_nothing_but_its_own_stylesheet() {
        let main = Html::default();
        let page = page(Place::Top, "x", &[], |_| {}, &main);
        let (_, style) = page.split_once("<style>").unwrap();
        let (style, _) = style.split_once("</style>").unwrap();
        let digest = Base64::encode_string(Sha256::of(style.as_bytes()).bytes());
        let policy = format!("default-src &#39;none&#39;; style-src &#39;sha256-{digest}&#39;;");
        assert!(page.contains(&policy), "{page}");
        for loads in [
            "<script", "<link", " src=", "@import", "url(", "http:", "https:",
        ] {
            assert!(!page.contains(loads), "{loads}");
        }
    }
}
