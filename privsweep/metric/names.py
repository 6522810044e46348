"""What a run's numbers are called: a metric begins with one of these. Apart from what computes them, for that takes
long to import, and a plan asks for the names alone.
"""

IMAGES = ("mse", "psnr", "ssim")
CONFIDENCE = 0.95  # of intervals
RATES = {"tpr_at_1_fpr": 0.01, "tpr_at_01_fpr": 0.001}  # false positive rates of 1% and 0.1% (Carlini et al., 2022)

RECONSTRUCTION = frozenset({*IMAGES, "asr", "recovered", "diverged", "label_accuracy"})
MEMBERSHIP = frozenset({"attack_accuracy", "balanced_accuracy", "auc", *RATES})
AUDIT = frozenset({"empirical_epsilon", "gaussian_epsilon"})
PROPERTY = frozenset({"property_accuracy", "property_auc"})
RELEASE = frozenset({"oracle_mse", "below_oracle", "total_variation", "border_variance", "reconstruction_auc", *RATES})
SENTENCES = frozenset({"token_accuracy", "exact", "overlap", "bleu"})
UTILITY_OF_IMAGES = frozenset({"train_accuracy", "test_accuracy"})
UTILITY = UTILITY_OF_IMAGES | {"validation_loss", "bleu"}
