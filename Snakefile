# The workflow: one rule per stage, one job per artifact (or per chunk of them).
# The graph holds what is missing and nothing else.
# What there is to make is decided by src/bitlaw/study; the rules only say how Snakemake sees it.


include: "workflow/rules/common.smk"
include: "workflow/rules/summary.smk"
include: "workflow/rules/model.smk"
include: "workflow/rules/calibrate.smk"
include: "workflow/rules/factorize.smk"
include: "workflow/rules/quantize.smk"
include: "workflow/rules/mix.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/landscape.smk"
include: "workflow/rules/output_error.smk"
include: "workflow/rules/zeroshot.smk"
include: "workflow/rules/chunk.smk"
include: "workflow/rules/laws.smk"
include: "workflow/rules/predictor.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        lambda wildcards: RUN.targets(
            executing=bool(workflow.executor_plugin) and not workflow.dryrun,
            reporting=not workflow.executor_plugin,
        ),
        figures,
