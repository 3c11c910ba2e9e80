//! Sums and products over all windows of a picture: of these the mean and the variance of any 3x3 convolution of it are made,
//! before, and without, the convolution.

/// Values of one row of a window: three pixels of three channels.
const RUN: usize = 9;
/// Values of a window; a one behind them gives the sums.
const WINDOW: usize = 3 * RUN;
/// That and zeros to fill whole registers.
const COLUMNS: usize = 32;

/// Products of a window's upper row with the window, summed over pixels.
type Products = [[f64; COLUMNS]; RUN];

/// What pairs of values of the windows sum to, over windows whose upper rows lie inside a picture of three channels with
/// zeros around it. The products of two lower rows are the same but for those of the picture's first and last row.
#[derive(Clone, Default)]
pub(crate) struct Moments {
    all: Products,
    first: Products,
    last: Products,
}

impl Moments {
    /// Of the windows whose upper rows are the first of `padded`, which has two more; pixels of zeros at both ends of a row of
    /// `width`. `first` and `last`: whether the picture's are among them.
    pub fn of(padded: &[f32], width: usize, first: bool, last: bool) -> Self {
        let pitch = 3 * (width + 2);
        let rows = padded.len() / pitch - 2;
        let mut moments = Self::default();
        for y in 0..rows {
            let mut products = Products::default();
            let row = |i: usize| &padded[(y + i) * pitch..][..pitch];
            add(row(0), row(1), row(2), &mut products);
            sum(&mut moments.all, &products);
            if first && y == 0 {
                moments.first = products;
            }
            if last && y == rows - 1 {
                moments.last = products;
            }
        }
        moments
    }

    pub fn total(parts: Vec<Self>) -> Self {
        let mut total = Self::default();
        for part in &parts {
            sum(&mut total.all, &part.all);
            sum(&mut total.first, &part.first);
            sum(&mut total.last, &part.last);
        }
        total
    }

    /// The sum, over the picture's windows, of value `b` times value `a`, `a` in no lower row; of `a` alone where `b` is
    /// [`WINDOW`].
    fn product(&self, a: usize, b: usize) -> f64 {
        let (row, i) = (a / RUN, a % RUN);
        let column = if b == WINDOW { b } else { b - row * RUN };
        let border = match row {
            0 => self.last[i][column],
            1 => 0.0,
            _ => self.first[i][column],
        };
        self.all[i][column] - border
    }

    /// Sum and sum of squares of each output of a convolution, over all `pixels` of the picture; `weight (outputs, 3, 3, 3)`.
    pub fn convolved(&self, weight: &[f32], bias: &[f32], pixels: usize) -> (Vec<f64>, Vec<f64>) {
        let pixels = pixels as f64;
        let products: Vec<[f64; WINDOW]> =
            (0..WINDOW).map(|a| std::array::from_fn(|b| self.product(a.min(b), a.max(b)))).collect();
        let output = |(weight, bias): (&[f32], &f32)| {
            // In a window's order: row, column, channel.
            let w: [f64; WINDOW] = std::array::from_fn(|i| f64::from(weight[i % 3 * 9 + i / 3]));
            let dot = |row: &[f64]| -> f64 { row.iter().zip(&w).map(|(p, w)| p * w).sum() };
            let sum: f64 = (0..WINDOW).map(|a| w[a] * self.product(a, WINDOW)).sum();
            let square: f64 = products.iter().zip(&w).map(|(row, w)| w * dot(row)).sum();
            let b = f64::from(*bias);
            (sum + pixels * b, square + 2.0 * b * sum + pixels * b * b)
        };
        weight.chunks_exact(WINDOW).zip(bias).map(output).unzip()
    }
}

fn sum(to: &mut Products, from: &Products) {
    for (t, f) in to.as_flattened_mut().iter_mut().zip(from.as_flattened()) {
        *t += f;
    }
}

super::vectorised! {
    /// Adds the products of the windows of a row, whose upper, middle and lower rows those are.
    fn add(upper: &[f32], middle: &[f32], lower: &[f32], products: &mut Products) {
        const PIXELS: usize = 64;
        let width = upper.len() / 3 - 2;
        let mut windows = [[0.0f64; COLUMNS]; PIXELS];
        for start in (0..width).step_by(PIXELS) {
            let count = PIXELS.min(width - start);
            for (p, window) in windows[..count].iter_mut().enumerate() {
                let at = 3 * (start + p);
                for i in 0..RUN {
                    window[i] = f64::from(upper[at..at + RUN][i]);
                    window[RUN + i] = f64::from(middle[at..at + RUN][i]);
                    window[2 * RUN + i] = f64::from(lower[at..at + RUN][i]);
                }
                window[WINDOW] = 1.0;
            }
            // Sums that stay in registers.
            for rows in (0..RUN).step_by(3) {
                for columns in (0..COLUMNS).step_by(8) {
                    let mut sums = [[0.0f64; 8]; 3];
                    for window in &windows[..count] {
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let value = window[rows + i];
                            for (sum, other) in sums.iter_mut().zip(&window[columns..columns + 8]) {
                                *sum += value * other;
                            }
                        }
                    }
                    for (i, sums) in sums.iter().enumerate() {
                        for (j, sum) in sums.iter().enumerate() {
                            products[rows + i][columns + j] += sum;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In strips, with an edge on every side that the zeros around the picture make.
    #[test]
    fn moments_of_windows_are_those_of_any_convolution_of_them() {
        for (height, width, strip) in [(1, 1, 1), (2, 3, 1), (5, 70, 2), (6, 4, 6)] {
            if cfg!(miri) && width > 10 {
                continue; // it runs hundreds of times slower
            }
            let value = |i: usize, salt: usize| ((i * 7919 + salt) % 2003) as f32 / 1001.0 - 0.9;
            let picture: Vec<f32> = (0..height * width * 3).map(|i| value(i, 1)).collect();
            let weight: Vec<f32> = (0..2 * WINDOW).map(|i| value(i, 2)).collect();
            let bias = [0.25, -1.5];
            let at = |y: isize, x: isize, c: usize| {
                let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
                if inside { picture[(y as usize * width + x as usize) * 3 + c] } else { 0.0 }
            };
            let parts = (0..height).step_by(strip).map(|first| {
                let rows = strip.min(height - first);
                let padded: Vec<f32> = (first..first + rows + 2)
                    .flat_map(|y| (0..width + 2).flat_map(move |x| (0..3).map(move |c| (y, x, c))))
                    .map(|(y, x, c)| at(y as isize, x as isize - 1, c))
                    .collect();
                Moments::of(&padded, width, first == 0, first + rows == height)
            });
            let moments = Moments::total(parts.collect());
            let (sums, squares) = moments.convolved(&weight, &bias, height * width);
            for o in 0..2 {
                let (mut sum, mut square) = (0.0, 0.0);
                for (y, x) in (0..height as isize).flat_map(|y| (0..width as isize).map(move |x| (y, x))) {
                    let mut v = f64::from(bias[o]);
                    for (t, c) in (0..9).flat_map(|t| (0..3).map(move |c| (t, c))) {
                        let from = at(y + t as isize / 3 - 1, x + t as isize % 3 - 1, c);
                        v += f64::from(from) * f64::from(weight[(o * 3 + c) * 9 + t]);
                    }
                    (sum, square) = (sum + v, square + v * v);
                }
                assert!((sums[o] - sum).abs() <= 1e-11 * (1.0 + square), "{}, not {sum}", sums[o]);
                assert!(
                    (squares[o] - square).abs() <= 1e-11 * (1.0 + square),
                    "{}, not {square}",
                    squares[o]
                );
            }
        }
    }
}
