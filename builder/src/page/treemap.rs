//! Sizes as a treemap: rectangles whose areas are in proportion, as an inline SVG.
//!
//! The layout is squarified (Bruls, Huizing, van Wijk, 2000): each row takes items while its worst
//! rectangle gets no longer. Additions, products and quotients alone, so the same sizes are the same
//! bytes on every machine.

use super::html::Html;
use crate::ui;

/// Rectangles of a map; what is smaller is one more.
const MOST: usize = 48;

/// The most characters of a name.
const LONGEST: usize = 100;

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// Its name.
    pub(super) name: String,
    /// Bytes.
    pub(super) size: u64,
    /// Its class in the stylesheet.
    pub(super) class: &'static str,
}

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rectangle {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// The largest items, and the others as one.
pub(super) fn largest(mut items: Vec<Item>) -> Vec<Item> {
    items.retain(|item| item.size > 0);
    for item in &mut items {
        item.name = shortened(&item.name, LONGEST).unwrap_or_default();
    }
    items.sort_by(|a, b| (b.size, &a.name).cmp(&(a.size, &b.name)));
    if items.len() > MOST {
        let rest = items.split_off(MOST - 1);
        items.push(Item {
            name: format!("{} more", rest.len()),
            size: rest.iter().map(|item| item.size).sum(),
            class: "m3",
        });
    }
    items
}

/// Adds the map for wide and for narrow windows; `label` is the alternative in words.
pub(super) fn show(html: &mut Html, items: &[Item], label: &str) {
    one(html, items, label, "wide", (960.0, 420.0));
    one(html, items, label, "narrow", (360.0, 460.0));
}

fn one(html: &mut Html, items: &[Item], label: &str, class: &str, (width, height): (f64, f64)) {
    let view = format!("0 0 {width} {height}");
    let attributes = [
        ("class", class),
        ("viewBox", &view),
        ("role", "img"),
        ("aria-label", label),
    ];
    html.element("svg", &attributes, |html| {
        let sizes: Vec<u64> = items.iter().map(|item| item.size).collect();
        for (item, at) in items.iter().zip(squarify(&sizes, width, height)) {
            let number = |value: f64| format!("{value:.1}");
            html.element(
                "rect",
                &[
                    ("class", item.class),
                    ("x", &number(at.x)),
                    ("y", &number(at.y)),
                    ("width", &number(at.width)),
                    ("height", &number(at.height)),
                ],
                |html| {
                    html.element("title", &[], |html| {
                        html.text(format_args!("{}, {}", item.name, ui::size(item.size)));
                    });
                },
            );
            let room = characters(at.width);
            let name = shortened(&item.name, room);
            if let Some(name) = name.filter(|_| at.height >= 18.0) {
                let (x, y) = (number(at.x + 5.0), number(at.y + 14.0));
                html.element("text", &[("x", &x), ("y", &y)], |html| html.text(name));
                let size = ui::size(item.size);
                if at.height >= 34.0 && size.len() <= room {
                    let y = number(at.y + 29.0);
                    html.element("text", &[("x", &x), ("y", &y)], |html| html.text(size));
                }
            }
        }
    });
}

/// How many characters there is room for: each takes about seven units.
#[expect(clippy::cast_sign_loss, reason = "it is not below zero")]
fn characters(width: f64) -> usize {
    ((width - 8.0) / 7.2).max(0.0) as usize
}

/// The name, or as much of it as there is room for, if that is worth reading.
fn shortened(name: &str, room: usize) -> Option<String> {
    let length = name.chars().count();
    if length <= room {
        return Some(name.to_owned());
    }
    (room >= 5).then(|| name.chars().take(room - 1).chain(['…']).collect())
}

/// A rectangle for each size, the largest first.
#[expect(clippy::cast_precision_loss, reason = "a drawing, in tenths of a unit")]
fn squarify(sizes: &[u64], width: f64, height: f64) -> Vec<Rectangle> {
    let total = sizes.iter().map(|size| *size as f64).sum::<f64>();
    let scale = width * height / total.max(1.0);
    let areas: Vec<f64> = sizes.iter().map(|size| *size as f64 * scale).collect();
    let mut free = Rectangle {
        x: 0.0,
        y: 0.0,
        width,
        height,
    };
    let mut placed = Vec::with_capacity(areas.len());
    let mut rest = &areas[..];
    while !rest.is_empty() {
        let side = free.width.min(free.height);
        let mut count = 1;
        while count < rest.len() && worst(&rest[..=count], side) <= worst(&rest[..count], side) {
            count += 1;
        }
        let (row, after) = rest.split_at(count);
        rest = after;
        let sum = row.iter().sum::<f64>();
        let depth = if side > 0.0 { sum / side } else { 0.0 };
        let mut along = 0.0;
        let is_column = free.width >= free.height;
        for area in row {
            let length = if depth > 0.0 { area / depth } else { 0.0 };
            placed.push(if is_column {
                Rectangle {
                    x: free.x,
                    y: free.y + along,
                    width: depth,
                    height: length,
                }
            } else {
                Rectangle {
                    x: free.x + along,
                    y: free.y,
                    width: length,
                    height: depth,
                }
            });
            along += length;
        }
        if is_column {
            free.x += depth;
            free.width = (free.width - depth).max(0.0);
        } else {
            free.y += depth;
            free.height = (free.height - depth).max(0.0);
        }
    }
    placed
}

/// How long the longest rectangle of a row is for its width.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum = row.iter().sum::<f64>();
    let most = row.iter().copied().fold(0.0, f64::max);
    let least = row.iter().copied().fold(f64::INFINITY, f64::min);
    let squared = side * side;
    (squared * most / (sum * sum)).max(sum * sum / (squared * least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_in_proportion_and_fill_the_map() {
        let sizes: [u64; 7] = [600, 600, 400, 300, 200, 200, 100];
        let found = squarify(&sizes, 600.0, 400.0);
        for (size, at) in sizes.iter().zip(&found) {
            let area = at.width * at.height;
            let size = f64::from(u32::try_from(*size).unwrap());
            assert!((area - size * 100.0).abs() < 0.001, "{at:?}");
            assert!(at.x >= 0.0 && at.x + at.width < 600.001, "{at:?}");
            assert!(at.y >= 0.0 && at.y + at.height < 400.001, "{at:?}");
        }
        // The example of the paper: the first two stand above each other.
        assert_eq!((found[0].x, found[1].x), (0.0, 0.0));
        for (one, other) in found.iter().zip(&found[1..]) {
            let apart = one.x + one.width <= other.x + 0.001
                || other.x + other.width <= one.x + 0.001
                || one.y + one.height <= other.y + 0.001
                || other.y + other.height <= one.y + 0.001;
            assert!(apart, "{one:?} {other:?}");
        }
        assert_eq!(squarify(&[], 10.0, 10.0), []);
    }

    #[test]
    fn what_is_small_is_added_up() {
        let item = |number: u64| Item {
            name: format!("p{number}"),
            size: number,
            class: "m0",
        };
        let found = largest((0..100).map(item).collect());
        assert_eq!(found.len(), MOST);
        assert_eq!(found[0].name, "p99");
        let last = found.last().unwrap();
        assert_eq!((last.name.as_str(), last.class), ("52 more", "m3"));
        assert_eq!(found.iter().map(|item| item.size).sum::<u64>(), 4950);
    }

    #[test]
    fn names_that_do_not_fit_are_shortened_or_left_out() {
        assert_eq!(shortened("libc6", 5).as_deref(), Some("libc6"));
        assert_eq!(shortened("libc6-dev", 5).as_deref(), Some("libc…"));
        assert_eq!(shortened("libc6-dev", 4), None);
    }
}
