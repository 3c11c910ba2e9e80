//! 3 x 3 matrices: what colour transforms are made of.

pub(super) type Vector = [f64; 3];
pub(super) type Matrix = [[f64; 3]; 3];

pub(super) const IDENTITY: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

pub(super) fn build(f: impl Fn(usize, usize) -> f64) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| f(i, j)))
}

pub(super) fn product(a: &Matrix, b: &Matrix) -> Matrix {
    build(|i, j| (0..3).map(|k| a[i][k] * b[k][j]).sum())
}

pub(super) fn apply(a: &Matrix, v: &Vector) -> Vector {
    std::array::from_fn(|i| (0..3).map(|k| a[i][k] * v[k]).sum())
}

pub(super) fn add_scaled(a: &Matrix, scale: f64, b: &Matrix) -> Matrix {
    build(|i, j| a[i][j] + scale * b[i][j])
}

pub(super) fn transpose(a: &Matrix) -> Matrix {
    build(|i, j| a[j][i])
}

/// Eigenvalues and, as columns, eigenvectors of a symmetric matrix, by cyclic Jacobi rotations.
pub(super) fn eigen(a: &Matrix) -> (Vector, Matrix) {
    let (mut a, mut v) = (*a, IDENTITY);
    // Quadratic convergence: a handful of sweeps reaches the last bit.
    for _ in 0..12 {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if a[p][q] == 0.0 {
                continue;
            }
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let c = 1.0 / (t * t + 1.0).sqrt();
            let mut rotation = IDENTITY;
            (rotation[p][p], rotation[q][q]) = (c, c);
            (rotation[p][q], rotation[q][p]) = (t * c, -t * c);
            a = product(&transpose(&rotation), &product(&a, &rotation));
            v = product(&v, &rotation);
        }
    }
    ([a[0][0], a[1][1], a[2][2]], v)
}

/// `f` of a symmetric matrix: of its eigenvalues.
pub(super) fn function(a: &Matrix, f: impl Fn(f64) -> f64) -> Matrix {
    let (values, v) = eigen(a);
    build(|i, j| (0..3).map(|k| v[i][k] * f(values[k]) * v[j][k]).sum())
}

/// `a` with its gains (singular values) kept within `low..=high`.
pub(super) fn limit_gains(a: &Matrix, low: f64, high: f64) -> Matrix {
    let (squares, v) = eigen(&product(&transpose(a), a));
    let gains = squares.map(|s| s.max(0.0).sqrt());
    if gains.iter().all(|g| (low..=high).contains(g)) {
        return *a;
    }
    let along: Matrix = product(a, &v);
    let column = |k: usize| -> Vector {
        if gains[k] > 1e-9 {
            std::array::from_fn(|i| along[i][k] / gains[k])
        } else {
            // No direction of its own: it keeps the one it came from.
            std::array::from_fn(|i| v[i][k])
        }
    };
    let columns = [column(0), column(1), column(2)];
    build(|i, j| (0..3).map(|k| columns[k][i] * gains[k].clamp(low, high) * v[j][k]).sum())
}

/// Solves `a x = b` for a symmetric positive definite `a`.
pub(super) fn solve(a: &Matrix, b: &Vector) -> Vector {
    apply(&function(a, |value| 1.0 / value.max(1e-12)), b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Matrix = [[2.0, -0.3, 0.4], [-0.3, 1.0, 0.2], [0.4, 0.2, 0.5]];

    fn near(a: &Matrix, b: &Matrix) {
        for (x, y) in a.iter().flatten().zip(b.iter().flatten()) {
            assert!((x - y).abs() < 1e-12, "{a:?} is not {b:?}");
        }
    }

    #[test]
    fn a_root_squared_is_the_matrix() {
        let root = function(&A, f64::sqrt);
        near(&product(&root, &root), &A);
        near(&function(&IDENTITY, |v| v), &IDENTITY);
    }

    #[test]
    fn a_solution_solves() {
        let b = [1.0, -2.0, 0.5];
        for (got, want) in apply(&A, &solve(&A, &b)).iter().zip(b) {
            assert!((got - want).abs() < 1e-12);
        }
    }

    #[test]
    fn gains_within_the_limits_are_left_and_others_cut() {
        assert_eq!(limit_gains(&A, 0.1, 10.0), A);
        let cut = limit_gains(&[[5.0, 0.0, 0.0], [0.0, 0.01, 0.0], [0.0, 0.0, 1.0]], 0.25, 3.0);
        near(&cut, &[[3.0, 0.0, 0.0], [0.0, 0.25, 0.0], [0.0, 0.0, 1.0]]);
        near(&limit_gains(&[[0.0; 3]; 3], 0.25, 3.0), &build(|i, j| 0.25 * IDENTITY[i][j]));
    }
}
