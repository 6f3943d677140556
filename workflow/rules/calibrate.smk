# What a model's linears see on the calibration text.
rule calibrate:
    input:
        lambda wildcards: RUN.inputs(f"results/calibrate/{wildcards.label}/{wildcards.key}.safetensors"),
    output:
        "results/calibrate/{label}/{key}.safetensors",
    log:
        "logs/calibrate/{label}/{key}.log",
    threads: 1
    shell:
        "{RUN.command} {output} > {log} 2>&1"
