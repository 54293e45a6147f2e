# SPDX-License-Identifier: Apache-2.0
"""What ./dev bench is made of: the machine, the contestants, the work, the rounds, the report, the plot."""
