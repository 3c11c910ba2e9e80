//! Several objects of one class, told apart: a white bottle and a black jar, both to become red, need different
//! changes. Each connected part of a class that is large enough is a region with a change of its own; small parts go with
//! the nearest region.

use super::window::Window;
use crate::image::LabelMap;

/// Share of the window's pixels from which a connected part of a class is a region of its own.
const REGION: f32 = 0.002;

/// The regions of a picture's classes. Region i is of class i as far as there are classes.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    /// The class of each region.
    classes: Vec<usize>,
    /// For each class with several regions: the nearest of them to each of the network's pixels.
    nearest: Vec<Option<Vec<u16>>>,
    /// Side of the network's picture, and where the content's pixels lie on it.
    side: usize,
    to_network: [f32; 4],
}

impl Regions {
    /// The classes themselves as regions.
    pub fn whole(classes: usize) -> Self {
        let (nearest, classes) = (vec![None; classes], (0..classes).collect());
        Self { classes, nearest, side: 1, to_network: [0.0; 4] }
    }

    /// `small` shows the labels of the window.
    pub fn of(small: &LabelMap, window: &Window, classes: usize) -> Self {
        const NONE: u16 = u16::MAX;
        let side = small.width();
        let to_network = window.to_network(side).map(|v| v as f32);
        let mut found = Self { side, to_network, ..Self::whole(classes) };
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); classes];
        for (i, &class) in small.indices().iter().enumerate() {
            places[usize::from(class)].push(i);
        }
        for (class, pixels) in places.iter().enumerate() {
            let parts = parts(pixels, side);
            if parts.len() < 2 {
                continue;
            }
            let mut map = vec![NONE; side * side];
            let mut front = Vec::with_capacity(side * side);
            for (k, part) in parts.iter().enumerate() {
                let region = if k == 0 { class } else { found.classes.len() };
                if k > 0 {
                    found.classes.push(class);
                }
                // There are fewer than 1 / REGION regions beside the classes.
                part.iter().for_each(|&i| map[i] = region as u16);
                front.extend(part);
            }
            // The picture is flooded from all regions at once.
            let mut next = 0;
            while next < front.len() {
                let i = front[next];
                for j in neighbours(i, side) {
                    if map[j] == NONE {
                        map[j] = map[i];
                        front.push(j);
                    }
                }
                next += 1;
            }
            found.nearest[class] = Some(map);
        }
        found
    }

    /// Bytes that they hold, about.
    pub fn bytes(&self) -> usize {
        self.nearest.iter().flatten().map(|map| map.len() * 2).sum()
    }

    /// How many classes the model has.
    pub fn class_count(&self) -> usize {
        self.nearest.len()
    }

    /// The class of each region.
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The region of `class` that the content's pixel (x, y) belongs to.
    #[inline]
    pub fn at(&self, class: usize, x: usize, y: usize) -> usize {
        if self.nearest[class].is_none() {
            return class;
        }
        let [sx, dx, sy, dy] = self.to_network;
        self.near(class, sx + dx * x as f32, sy + dy * y as f32)
    }

    /// The region of `class` at (x, y) of the network's picture.
    pub fn near(&self, class: usize, x: f32, y: f32) -> usize {
        let place = |t: f32| (t.round().max(0.0) as usize).min(self.side - 1);
        self.nearest[class].as_ref().map_or(class, |map| usize::from(map[place(y) * self.side + place(x)]))
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

    fn regions(rows: &[&str]) -> Regions {
        let indices = rows.iter().flat_map(|r| r.bytes().map(|b| b - b'0')).collect();
        let small = LabelMap::new(rows.len(), rows.len(), indices).unwrap();
        Regions::of(&small, &Window::whole(rows.len() * 3, rows.len() * 3), 2)
    }

    #[test]
    fn parts_that_lie_apart_are_regions_and_specks_go_with_the_nearest() {
        let found = regions(&[
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
        ]);
        assert_eq!(found.classes(), [0, 1, 1]);
        // The larger part keeps the class's number. Pixels of the content are three to one of the network's.
        let at = |x: usize, y: usize| found.at(1, 3 * x + 1, 3 * y + 1);
        assert_eq!([at(0, 0), at(2, 2), at(7, 6), at(9, 7), at(7, 2)], [2, 2, 1, 1, 1]);
        assert_eq!(found.at(0, 5, 5), 0);
    }

    #[test]
    fn one_part_is_the_class_itself() {
        let found = regions(&["0000", "0110", "0110", "0000"]);
        assert_eq!(found.classes(), [0, 1]);
        assert_eq!(found.at(1, 5, 5), 1);
    }
}
