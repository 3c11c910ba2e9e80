//! Sheets of pictures side by side, with captions.

use font8x8::legacy::BASIC_LEGACY;

use crate::Result;
use crate::image::{Picture, RgbImage};

/// Longest side of a panel, in pixels, unless told otherwise.
const PANEL: usize = 256;
const GAP: usize = 8;
/// Height of a caption's line, its letters of 8 x 8 dots included.
const CAPTION: usize = 14;

/// Rows of captioned pictures.
pub struct Sheet {
    panel: usize,
    rows: Vec<Vec<(String, RgbImage)>>,
}

impl Default for Sheet {
    fn default() -> Self {
        Self::of_panels(PANEL)
    }
}

impl Sheet {
    /// An empty sheet whose panels' longer side is at most `panel` pixels.
    pub fn of_panels(panel: usize) -> Self {
        Self { panel, rows: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row of pictures.
    pub fn row(&mut self, panels: Vec<(String, RgbImage)>) {
        self.rows.push(panels);
    }

    /// The sheet as one picture; an empty one is a white square.
    pub fn to_picture(&self) -> Result<Picture> {
        let rows: Vec<Vec<(&str, RgbImage)>> = self
            .rows
            .iter()
            .map(|row| {
                row.iter().map(|(caption, picture)| (caption.as_str(), fitted(picture, self.panel))).collect()
            })
            .collect();
        let height =
            |row: &[(&str, RgbImage)]| row.iter().map(|(_, p)| p.height).max().unwrap_or(0) + CAPTION + GAP;
        let width = |row: &[(&str, RgbImage)]| row.iter().map(|(_, p)| p.width + GAP).sum::<usize>();
        let size = (
            rows.iter().map(|row| width(row)).max().unwrap_or(0) + GAP,
            rows.iter().map(|row| height(row)).sum::<usize>() + GAP,
        );
        let mut canvas = RgbImage { width: size.0, height: size.1, pixels: vec![1.0; size.0 * size.1 * 3] };
        let mut top = GAP;
        for row in &rows {
            let mut left = GAP;
            for (caption, picture) in row {
                write(&mut canvas, caption, (left, top), picture.width + GAP);
                for (y, line) in picture.pixels.chunks_exact(picture.width * 3).enumerate() {
                    let at = ((top + CAPTION + y) * canvas.width + left) * 3;
                    canvas.pixels[at..at + line.len()].copy_from_slice(line);
                }
                left += picture.width + GAP;
            }
            top += height(row);
        }
        canvas.to_picture()
    }
}

/// The picture, its longer side at most `panel`.
fn fitted(picture: &RgbImage, panel: usize) -> RgbImage {
    let longer = picture.width.max(picture.height);
    if longer <= panel {
        return picture.clone();
    }
    let scaled = |side: usize| (side * panel).div_ceil(longer);
    picture.resized(scaled(picture.width), scaled(picture.height))
}

/// Writes `text` in black, cut where it would be wider than `room`.
fn write(canvas: &mut RgbImage, text: &str, (left, top): (usize, usize), room: usize) {
    for (i, letter) in text.chars().take(room / 8).enumerate() {
        let glyph = BASIC_LEGACY.get(letter as usize).unwrap_or(&BASIC_LEGACY[usize::from(b'?')]);
        for (y, bits) in glyph.iter().enumerate() {
            for x in (0..8).filter(|x| bits >> x & 1 == 1) {
                let at = ((top + y) * canvas.width + left + i * 8 + x) * 3;
                canvas.pixels[at..at + 3].fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Samples;

    #[test]
    fn panels_stand_where_they_belong_and_captions_are_written() {
        let panel = |v: f32| RgbImage { width: 40, height: 30, pixels: vec![v; 3600] };
        let mut sheet = Sheet::default();
        sheet.row(vec![("one".into(), panel(0.2)), ("two".into(), panel(0.6))]);
        sheet.row(vec![("three".into(), panel(0.4))]);
        let picture = sheet.to_picture().unwrap();
        assert_eq!((picture.width(), picture.height()), (3 * 8 + 2 * 40, 2 * (30 + 14 + 8) + 8));
        let Samples::U8(samples) = picture.samples() else { panic!("8-bit") };
        let at = |x: usize, y: usize| samples[(y * picture.width() + x) * 3];
        assert_eq!((at(8, 22), at(8 + 48, 22), at(8, 22 + 52)), (51, 153, 102));
        let dark = (8..22).flat_map(|y| (8..48).map(move |x| (x, y))).filter(|&(x, y)| at(x, y) == 0).count();
        assert!((20..120).contains(&dark), "{dark} dots of three letters");
    }

    #[test]
    fn large_pictures_are_reduced() {
        let large = RgbImage { width: 600, height: 300, pixels: vec![0.5; 540_000] };
        let small = fitted(&large, 256);
        assert_eq!((small.width, small.height), (256, 128));
    }
}
