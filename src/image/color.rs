//! Colour profiles: pixels meet the network in sRGB, and go back into the profile they came in.
//!
//! [`Style::extract`](crate::style::Style::extract) and [`restyle`](crate::restyle::restyle) take samples as sRGB. For a
//! picture with another profile, give them [`Picture::to_srgb`]'s copy, and bring the result back with [`InSrgb::back`], as
//! [`restyle_picture`](crate::restyle::restyle_picture) does.

use std::sync::Arc;

use moxcms::{ColorProfile, DataColorSpace, Layout, TransformF32Executor, TransformOptions};
use rayon::prelude::*;

use super::{Picture, Samples};
use crate::{Error, Result};

/// Profiles whose colours are nowhere further from sRGB's than this, in units of 1, are sRGB: half an 8-bit step.
const SAME: f32 = 0.5 / 255.0;

/// Pixels that are converted at once.
const CHUNK: usize = 1 << 14;

/// One direction. What lies outside [0, 1] is clamped for the way, and added again behind it.
struct Way(Arc<TransformF32Executor>);

impl Way {
    fn new(
        from: &ColorProfile,
        to: &ColorProfile,
        layout: Layout,
    ) -> std::result::Result<Self, moxcms::CmsError> {
        let options = TransformOptions { prefer_fixed_point: false, ..TransformOptions::default() };
        from.create_transform_f32(layout, to, layout, options).map(Self)
    }

    /// `channels` values a pixel.
    fn run(&self, from: &[f32], to: &mut [f32], channels: usize) -> Result<()> {
        let length = CHUNK * channels;
        from.par_chunks(length).zip(to.par_chunks_mut(length)).try_for_each(|(from, to)| {
            // A NaN goes as black, and is a NaN again behind.
            let inside: Vec<f32> =
                from.iter().map(|v| if v.is_nan() { 0.0 } else { v.clamp(0.0, 1.0) }).collect();
            self.0
                .transform(&inside, to)
                .map_err(|e| Error::invalid(format!("its ICC profile failed: {e}")))?;
            for ((to, from), inside) in to.iter_mut().zip(from).zip(&inside) {
                *to += from - inside;
            }
            Ok(())
        })
    }
}

/// The way from a profile to sRGB and back.
struct Conversion {
    to_srgb: Way,
    from_srgb: Way,
}

impl Conversion {
    /// None when the profile is sRGB's, or is of another kind than the pixels (a gray one on RGB pixels), as viewers do.
    fn of(icc_profile: &[u8], channels: usize) -> std::result::Result<Option<Self>, moxcms::CmsError> {
        let profile = ColorProfile::new_from_slice(icc_profile)?;
        let (space, layout) = match channels {
            1 => (DataColorSpace::Gray, Layout::Gray),
            _ => (DataColorSpace::Rgb, Layout::Rgb),
        };
        if profile.color_space != space {
            return Ok(None);
        }
        let mut srgb = ColorProfile::new_srgb();
        if channels == 1 {
            let curve = srgb.red_trc.clone();
            srgb = ColorProfile::new_gray_with_gamma(2.2);
            srgb.gray_trc = curve;
        }
        let to_srgb = Way::new(&profile, &srgb, layout)?;
        let from_srgb = Way::new(&srgb, &profile, layout)?;
        let grid: Vec<f32> = match channels {
            1 => (0..=64).map(|v| v as f32 / 64.0).collect(),
            _ => (0..9 * 9 * 9).flat_map(|i| [i / 81, i / 9 % 9, i % 9].map(|v| v as f32 / 8.0)).collect(),
        };
        let mut converted = vec![0.0; grid.len()];
        to_srgb.0.transform(&grid, &mut converted)?;
        let far = grid.iter().zip(&converted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        Ok((far > SAME).then_some(Self { to_srgb, from_srgb }))
    }
}

/// The sRGB copy of a picture with another profile, and the way back.
pub struct InSrgb {
    conversion: Conversion,
    picture: Picture,
}

impl Picture {
    fn conversion(&self) -> Result<Option<Conversion>> {
        let Some(icc_profile) = self.icc_profile() else { return Ok(None) };
        Conversion::of(icc_profile, self.color_channels()).map_err(|e| {
            Error::invalid(format!(
                "a picture's ICC profile cannot be used ({e}): convert the picture to sRGB, or remove the profile"
            ))
        })
    }

    /// The picture in sRGB as floats, its alpha kept; none when it is in sRGB as it stands. Colours that sRGB does not have
    /// become the nearest that it has; floats beyond white or black stay as far beyond.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when its ICC profile is damaged or of a kind that cannot be followed in both directions.
    pub fn to_srgb(&self) -> Result<Option<Self>> {
        Ok(self.in_srgb()?.map(|s| s.picture))
    }

    /// Bytes that a job on the copy in sRGB takes beside what it takes on a picture in sRGB: the copy, a result like it, and what
    /// goes through the profile; an estimate from above, 0 for a picture in sRGB as it stands.
    pub(crate) fn conversion_bytes(&self) -> Result<u64> {
        if self.conversion()?.is_none() {
            return Ok(0);
        }
        let (pixels, colors) = ((self.width() * self.height()) as u64, self.color_channels() as u64);
        // On the way back the places of changed pixels, while their list grows, and three rows of their colours.
        Ok(8 * self.samples().len() as u64 + pixels * (24 + 12 * colors))
    }

    /// As [`to_srgb`](Self::to_srgb), with the way back.
    pub fn in_srgb(&self) -> Result<Option<InSrgb>> {
        let Some(conversion) = self.conversion()? else { return Ok(None) };
        let (channels, colors) = (self.channels(), self.color_channels());
        let mut samples: Vec<f32> = (0..self.samples().len()).map(|i| self.samples().unit(i)).collect();
        let mut color = Vec::with_capacity(samples.len() / channels * colors);
        samples.chunks_exact(channels).for_each(|pixel| color.extend_from_slice(&pixel[..colors]));
        let mut converted = vec![0.0; color.len()];
        conversion.to_srgb.run(&color, &mut converted, colors)?;
        for (pixel, color) in samples.chunks_exact_mut(channels).zip(converted.chunks_exact(colors)) {
            pixel[..colors].copy_from_slice(color);
        }
        let mut picture = Self::new(self.width(), self.height(), channels, Samples::F32(samples))?;
        picture.metadata_mut().resolution = self.metadata().resolution;
        Ok(Some(InSrgb { conversion, picture }))
    }
}

impl InSrgb {
    /// The copy in sRGB, of floats.
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// `result`, made from [`picture`](Self::picture), in the form and the profile of `original`. Pixels that are the same
    /// in both are the original's, bit for bit.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `result` is of another size, sample type or number of channels than the copy.
    pub fn back(&self, original: &Picture, result: &Picture) -> Result<Picture> {
        let (channels, colors) = (original.channels(), original.color_channels());
        let same_form = (result.width(), result.height(), result.channels())
            == (original.width(), original.height(), channels);
        let (Samples::F32(before), Samples::F32(after), true) =
            (self.picture.samples(), result.samples(), same_form)
        else {
            return Err(Error::invalid("a result of another form than its content"));
        };
        let changed: Vec<usize> = (0..before.len() / channels)
            .filter(|&i| {
                let pixel = i * channels..i * channels + colors;
                // By bits: a NaN that was not touched is unchanged.
                before[pixel.clone()].iter().zip(&after[pixel]).any(|(a, b)| a.to_bits() != b.to_bits())
            })
            .collect();
        let of = |samples: &[f32]| -> Result<Vec<f32>> {
            let mut color = Vec::with_capacity(changed.len() * colors);
            changed.iter().for_each(|&i| color.extend_from_slice(&samples[i * channels..][..colors]));
            let mut converted = vec![0.0; color.len()];
            self.conversion.from_srgb.run(&color, &mut converted, colors)?;
            Ok(converted)
        };
        // The original's own value moves by the change alone: colours that sRGB does not have stay beyond it, and what the
        // way rounds is taken out.
        let (before, after) = (of(before)?, of(after)?);
        let mut samples = original.samples().clone();
        let pixels = before.chunks_exact(colors).zip(after.chunks_exact(colors));
        for (&i, (before, after)) in changed.iter().zip(pixels) {
            for k in 0..colors {
                let at = i * channels + k;
                let v = original.samples().unit(at) + (after[k] - before[k]);
                match &mut samples {
                    Samples::U8(s) => s[at] = (v * 255.0).round() as u8,
                    Samples::U16(s) => s[at] = (v * 65535.0).round() as u16,
                    Samples::F32(s) => s[at] = v,
                }
            }
        }
        let picture = Picture::new(original.width(), original.height(), channels, samples)?;
        Ok(picture.with_metadata(original.metadata().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_profile(profile: ColorProfile, channels: usize, samples: Samples) -> Picture {
        let width = samples.len() / channels;
        let mut picture = Picture::new(width, 1, channels, samples).unwrap();
        picture.metadata_mut().icc_profile = Some(profile.encode().unwrap().into());
        picture
    }

    #[test]
    fn srgb_is_known_by_its_colours() {
        let picture = with_profile(ColorProfile::new_srgb(), 3, Samples::U8(vec![1, 2, 3]));
        assert!(picture.to_srgb().unwrap().is_none());
        let gray = with_profile(ColorProfile::new_srgb(), 1, Samples::U8(vec![1]));
        assert!(
            gray.to_srgb().unwrap().is_none(),
            "a profile of another kind than the pixels is not followed"
        );
    }

    #[test]
    fn adobe_rgb_meets_the_network_in_srgb() {
        // Adobe RGB (1998)'s green at half: known to lie outside sRGB; its grays have gamma 2.2.
        let samples = Samples::U8(vec![128, 128, 128, 0, 255, 0, 255, 0, 0]);
        let picture = with_profile(ColorProfile::new_adobe_rgb(), 3, samples);
        let Samples::F32(srgb) = picture.to_srgb().unwrap().unwrap().samples().clone() else { panic!() };
        // 128/255 to the power 2.2 (563/256) is 0.2195 in light, which sRGB writes as 0.5059: hardly any difference.
        assert!(srgb[..3].iter().all(|v| (v - 0.506).abs() < 0.003), "{srgb:?}");
        assert!(srgb[3].abs() < 0.01 && srgb[4] > 0.99, "a green that sRGB does not have: {srgb:?}");
        assert!(srgb[6] > 0.99 && srgb[7].abs() < 0.02, "{srgb:?}");
    }

    #[test]
    fn there_and_back_touches_only_what_changed() {
        let profiles = [
            ColorProfile::new_adobe_rgb(),
            ColorProfile::new_display_p3(),
            ColorProfile::new_pro_photo_rgb(),
        ];
        for profile in profiles {
            let bytes: Vec<u8> = (0..4 * 512).map(|i| (i * 7 % 256) as u8).collect();
            let wide: Vec<u16> = bytes.iter().map(|&b| u16::from(b) * 257).collect();
            for samples in [Samples::U8(bytes.clone()), Samples::U16(wide)] {
                let original = with_profile(profile.clone(), 4, samples);
                let srgb = original.in_srgb().unwrap().unwrap();
                assert_eq!(srgb.back(&original, &srgb.picture).unwrap(), original);

                // A change of nothing but the last bits goes all the way through, and moves nothing that shows.
                let Samples::F32(mut v) = srgb.picture.samples().clone() else { panic!() };
                v.iter_mut().step_by(2).for_each(|v| *v = f32::from_bits(v.to_bits() ^ 1));
                let result = Picture::new(512, 1, 4, Samples::F32(v)).unwrap();
                let back = srgb.back(&original, &result).unwrap();
                let step: f32 = match original.samples() {
                    Samples::U8(_) => 1.0 / 255.0,
                    // moxcms takes floats as 14-bit values.
                    _ => 1.0 / 16384.0,
                };
                for i in 0..original.samples().len() {
                    let (value, back) = (original.samples().unit(i), back.samples().unit(i));
                    let off = (value - back).abs();
                    // A pure gamma is steep at black: a rounding of 1e-7 in light is 7e-4 there.
                    let limit = if value < 0.02 { step.max(7e-4) } else { step * 1.01 };
                    assert!(off <= limit, "sample {i}, {value}: {off}");
                    assert!(i % 4 != 3 || off == 0.0, "alpha is not a colour");
                }
            }
        }
    }

    #[test]
    fn a_changed_pixel_is_written_as_its_profile_writes_the_new_colour() {
        // Grays, which every profile has; 0.5 in sRGB is 0.2140 in light. Adobe RGB's gamma is 563/256, Display P3's curve
        // is sRGB's, ProPhoto's gamma 1.8.
        let profiles = [
            (ColorProfile::new_adobe_rgb(), 0.2140_f32.powf(256.0 / 563.0)),
            (ColorProfile::new_display_p3(), 0.5),
            (ColorProfile::new_pro_photo_rgb(), 0.2140_f32.powf(1.0 / 1.8)),
        ];
        for (profile, wanted) in profiles {
            for gray in [40_000_u16, 9_000] {
                let original = with_profile(profile.clone(), 3, Samples::U16(vec![gray; 3]));
                let srgb = original.in_srgb().unwrap().unwrap();
                let result = Picture::new(1, 1, 3, Samples::F32(vec![0.5; 3])).unwrap();
                let back = srgb.back(&original, &result).unwrap();
                for k in 0..3 {
                    // Three roundings to 14 bits, and the matrices' own.
                    let off = (back.samples().unit(k) - wanted).abs();
                    assert!(off < 1e-3, "{gray} to {}, not {wanted}", back.samples().unit(k));
                }
            }
        }
    }

    #[test]
    fn a_gray_profile_on_gray_pixels() {
        let profile = ColorProfile::new_gray_with_gamma(1.0);
        let picture = with_profile(profile, 1, Samples::U16(vec![0, 14008, 65535]));
        let srgb = picture.in_srgb().unwrap().unwrap();
        let Samples::F32(v) = srgb.picture.samples() else { panic!() };
        // Linear light 0.2137 is written as 0.5 in sRGB.
        assert!(v[0].abs() < 1e-3 && (v[1] - 0.5).abs() < 2e-3 && (v[2] - 1.0).abs() < 1e-3, "{v:?}");
    }

    #[test]
    fn a_damaged_profile_is_an_error_that_says_what_to_do() {
        let mut picture = Picture::new(1, 1, 3, Samples::U8(vec![1, 2, 3])).unwrap();
        picture.metadata_mut().icc_profile = Some(vec![7; 200].into());
        let error = picture.to_srgb().unwrap_err().to_string();
        assert!(error.contains("ICC profile") && error.contains("convert the picture to sRGB"), "{error}");
    }
}
