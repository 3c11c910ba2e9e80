//! Several objects of one class, told apart.
//!
//! A white bottle and a black jar of one class, both to become red, need different changes: each connected part of a class
//! that is large enough is a region with a change of its own; small parts go with the nearest region.

use std::borrow::Cow;

use super::window::Window;
use crate::image::LabelMap;

/// Share of the window's pixels from which a connected part of a class is a region of its own.
const REGION: f32 = 0.002;

/// All regions there can be: they are numbered as a label map's classes are.
const MOST: usize = 255;

/// The regions of a picture's classes.
pub(super) struct Regions<'a> {
    /// The region of each of the content's pixels.
    pub map: Cow<'a, LabelMap>,
    /// The same at the network's size.
    pub small: LabelMap,
    /// The class of each region; each class is a region at least, and region i is of class i as far as there are classes.
    pub classes: Vec<usize>,
}

impl<'a> Regions<'a> {
    /// The classes themselves as regions.
    pub fn whole(labels: &'a LabelMap, small: &LabelMap, classes: usize) -> Self {
        Self { map: Cow::Borrowed(labels), small: small.clone(), classes: (0..classes).collect() }
    }

    /// `small` shows the window of `labels`.
    pub fn of(labels: &'a LabelMap, small: &LabelMap, window: &Window, classes: usize) -> Self {
        let mut found = Self::whole(labels, small, classes);
        let side = small.width();
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); classes];
        for (i, &class) in small.indices().iter().enumerate() {
            places[usize::from(class)].push(i);
        }
        let mut regions = small.indices().to_vec();
        // For each class with several regions: the nearest of them to each of the network's pixels.
        let mut nearest: Vec<Option<Vec<u8>>> = vec![None; classes];
        for (class, pixels) in places.iter().enumerate() {
            let parts = parts(pixels, side);
            if parts.len() < 2 || found.classes.len() + parts.len() - 1 > MOST {
                continue;
            }
            let mut map = vec![u8::MAX; side * side];
            let mut front = Vec::with_capacity(side * side);
            for (k, part) in parts.iter().enumerate() {
                let region = if k == 0 { class } else { found.classes.len() };
                if k > 0 {
                    found.classes.push(class);
                }
                part.iter().for_each(|&i| map[i] = region as u8);
                front.extend(part);
            }
            // The picture is flooded from all regions at once.
            let mut next = 0;
            while next < front.len() {
                let i = front[next];
                for j in neighbours(i, side) {
                    if map[j] == u8::MAX {
                        map[j] = map[i];
                        front.push(j);
                    }
                }
                next += 1;
            }
            pixels.iter().for_each(|&i| regions[i] = map[i]);
            nearest[class] = Some(map);
        }
        if nearest.iter().all(Option::is_none) {
            return found;
        }
        let columns: Vec<usize> = (0..labels.width()).map(|x| window.nearest(x, 0, side).0).collect();
        let mut map = Vec::with_capacity(labels.indices().len());
        for y in 0..labels.height() {
            let row = window.nearest(0, y, side).1 * side;
            let region = |(&class, &column): (&u8, &usize)| match &nearest[usize::from(class)] {
                Some(map) => map[row + column],
                None => class,
            };
            map.extend(labels.row(y).iter().zip(&columns).map(region));
        }
        found.map = Cow::Owned(LabelMap::new(labels.width(), labels.height(), map).expect("as many as labels"));
        found.small = LabelMap::new(side, side, regions).expect("as many as labels");
        found
    }
}

/// The connected parts of one class's pixels that are large enough, the largest first.
fn parts(pixels: &[usize], side: usize) -> Vec<Vec<usize>> {
    let least = ((REGION * (side * side) as f32) as usize).max(8);
    let mut open = vec![false; side * side];
    pixels.iter().for_each(|&i| open[i] = true);
    let mut parts = Vec::new();
    for &first in pixels {
        if !std::mem::take(&mut open[first]) {
            continue;
        }
        let mut part = vec![first];
        let mut next = 0;
        while next < part.len() {
            for j in neighbours(part[next], side) {
                if std::mem::take(&mut open[j]) {
                    part.push(j);
                }
            }
            next += 1;
        }
        if part.len() >= least {
            parts.push(part);
        }
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts
}

fn neighbours(i: usize, side: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (i % side, i / side);
    let near = [
        (x > 0).then(|| i - 1),
        (x + 1 < side).then(|| i + 1),
        (y > 0).then(|| i - side),
        (y + 1 < side).then(|| i + side),
    ];
    near.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(rows: &[&str], scale: usize) -> (Vec<u8>, Vec<usize>) {
        let side = rows.len();
        let small: Vec<u8> = rows.iter().flat_map(|r| r.bytes().map(|b| b - b'0')).collect();
        let large = (0..side * scale * side * scale)
            .map(|i| small[i / (side * scale) / scale * side + i % (side * scale) / scale])
            .collect();
        let small = LabelMap::new(side, side, small).unwrap();
        let large = LabelMap::new(side * scale, side * scale, large).unwrap();
        let found = Regions::of(&large, &small, &Window::whole(side * scale, side * scale), 2);
        let shrunk = Window::whole(side * scale, side * scale).labels(&found.map, side);
        assert_eq!(shrunk.indices(), found.small.indices());
        (shrunk.indices().to_vec(), found.classes)
    }

    #[test]
    fn parts_that_lie_apart_are_regions_and_specks_go_with_the_nearest() {
        let rows = [
            "1110000000",
            "1110000000",
            "1110000100",
            "0000000000",
            "0000000000",
            "0000001111",
            "0000001111",
            "0000001111",
            "0000000000",
            "0000000000",
        ];
        let (map, classes) = regions(&rows, 3);
        assert_eq!(classes, [0, 1, 1]);
        // The larger part keeps the class's number.
        assert_eq!((map[0], map[5 * 10 + 7], map[2 * 10 + 7]), (2, 1, 1));
        assert!(map.iter().zip(rows.concat().bytes()).all(|(&r, b)| classes[usize::from(r)] == usize::from(b - b'0')));
    }

    #[test]
    fn one_part_is_the_class_itself() {
        let (map, classes) = regions(&["0000", "0110", "0110", "0000"], 2);
        assert_eq!(classes, [0, 1]);
        assert_eq!(map, [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0]);
    }
}
